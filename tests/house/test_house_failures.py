"""Every failure that the program can name is in the table of classes, and the table is in the documentation."""

from __future__ import annotations

import re

from house.source import ROOT, modules
from retort import failures

DOC = ROOT / "docs" / "failures.md"
RUNS = (
    "core/retort/run.py",
    "core/retort/stages",
    "core/retort/training",
    "core/retort/intake",
    "core/retort/journal.py",
)
NOT_OF_JOBS = {"expired", "bad_request", "stopped"}
"""What ends a job that never ran, and what is no failure or has a class of its own."""


def test_the_documentation_has_the_table():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.*) \| (.*) \|$", DOC.read_text(), re.MULTILINE)
    told = {code: (cause, retries, pause) for code, cause, retries, pause in rows}
    assert told == {code: shown(kind) for code, kind in failures.CLASSES.items()}


def shown(kind: failures.FailureClass) -> tuple[str, str, str]:
    if not kind.retries:
        return kind.cause, "", ""
    retries = "budget" if kind.retries == failures.AS_BUDGETED else str(kind.retries)
    return kind.cause, retries, f"{kind.delay_s:g} s" if kind.delay_s else "none"


def test_every_code_that_a_run_or_its_worker_can_give_has_a_class():
    places = [path for path in modules() if str(path.relative_to(ROOT)).startswith((*RUNS, "worker/"))]
    text = "\n".join(path.read_text() for path in places) + (ROOT / "core/retort/errors.py").read_text()
    codes = set(re.findall(r"\bcode ?= ?\"(\w+)\"", text))
    assert {"disk_full", "diverged"} <= codes
    assert codes - NOT_OF_JOBS - set(failures.CLASSES) == set()
