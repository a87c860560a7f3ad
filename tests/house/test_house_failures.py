"""Every failure has a class, and the documentation says of each what the code knows."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from house.source import ROOT, modules, name, tree
from retort import errors
from retort.errors import AS_BUDGETED, CLASSES, RetortError, UserError

RUN_AND_WORKER = (
    "core/retort/stages",
    "core/retort/pipeline",
    "core/retort/labelling",
    "core/retort/report",
    "core/retort/training",
    "core/retort/data",
    "core/retort/losses",
    "worker",
)
ALONE = ("core/retort/foreign.py", "core/retort/run.py", "core/retort/protocol/journal.py")


def _codes(module: Path) -> Iterator[str]:
    """Yield the codes that a module gives to errors and failures."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.keyword) and node.arg == "code":
            yield from _written(node.value)


def _written(value: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression can be, as far as they are written there."""
    if isinstance(value, ast.Constant):
        yield str(value.value)
    elif isinstance(value, ast.IfExp):
        yield from _written(value.body)
        yield from _written(value.orelse)


def _given() -> dict[str, list[str]]:
    files = [*modules(*RUN_AND_WORKER), *(ROOT / path for path in ALONE)]
    found: dict[str, list[str]] = {}
    for module in files:
        # The one speaks to people at the command line, the other of an upload: neither of a run.
        if module.name in {"demo.py", "url_fetches.py"}:
            continue
        for code in _codes(module):
            found.setdefault(code, []).append(name(module))
    return found


def test_every_code_that_run_and_worker_give_has_a_class():
    given = _given()

    assert len(given) > 15
    assert {code: places for code, places in given.items() if code not in CLASSES} == {}


def test_every_kind_of_error_but_the_root_of_mistakes_has_a_class():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, RetortError)]

    assert len(kinds) > 10
    assert {kind.__name__ for kind in kinds if kind.code not in CLASSES} == {UserError.__name__}


def test_no_mistake_of_a_user_is_tried_again_by_itself_for_its_own_sake():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, UserError)]

    assert {kind.code for kind in kinds if kind is not UserError and CLASSES[kind.code].retries} == set()


def test_every_class_is_documented_with_its_cause_and_its_retries():
    text = "".join((ROOT / "docs" / page).read_text() for page in ("failures.md", "failures-retried.md"))
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)

    assert sorted((code, cause, retries) for code, cause, retries, _ in rows) == sorted(
        (code, kind.cause, _told(kind.retries, kind.delay_s)) for code, kind in CLASSES.items()
    )


def _told(retries: int, delay_s: float) -> str:
    if not retries:
        return "no"
    if retries == AS_BUDGETED:
        return "as budgeted"
    return f"{retries}, after {delay_s:g} s" if delay_s else str(retries)
