"""The smallest job says and leaves what it always said and left: its journal, report, manifest and result."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from core.runs import Ended, document, start
from frozen.golden import Golden, fields
from sharing import Once

pytestmark = pytest.mark.train


def live(home: Path) -> tuple[str, int, int]:
    run = start(home, document(home))
    assert run.wait() == 0, run.log()
    return run.ended().told()


@pytest.fixture(scope="session")
def tiny(trained: Once) -> Ended:
    """One attempt at the job of ``core.runs``, from beginning to end."""
    return Ended.of(trained("tiny", live)[1])


def events(run: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.workdir / "journal-1.jsonl").read_text().splitlines()]


def told(event: dict[str, Any]) -> str:
    """One line for an event: what it is, which, and its keys."""
    which = [str(event[name]) for name in ("stage", "role", "step", "name", "epoch", "rule") if name in event]
    inside = event.get("values", event.get("data", event.get("metadata", event.get("metrics"))))
    names = sorted(event.keys() - {"n", "at", "type"})
    return f"{event['type']} {' '.join(which)}: {', '.join(names)}" + "".join(
        f"\n    {key}" for key in sorted(inside or {})
    )


def test_its_journal_tells_the_same_in_the_same_order(tiny: Ended, golden: Golden):
    # How often progress is told depends on the clock; what a rule finds depends on figures.
    lines = [told(event) for event in events(tiny) if event["type"] not in {"progress", "health"}]
    golden.same("journal.txt", "\n".join(lines) + "\n")


def listed(value: Any) -> str:
    """List a document's fields; what a health rule measured depends on which has found something."""
    return "".join(f"{line}\n" for line in sorted(fields(value)) if not line.startswith("health[]."))


def test_its_result_has_the_same_fields(tiny: Ended, golden: Golden):
    golden.same("result.txt", listed(events(tiny)[-1]["result"]))


@pytest.mark.parametrize("name", ["report.json", "manifest.json"])
def test_its_documents_have_the_same_fields(name: str, tiny: Ended, golden: Golden):
    golden.same(f"{name}.txt", listed(json.loads((tiny.workdir / "artifacts" / name).read_text())))


def test_it_leaves_the_same_files(tiny: Ended, golden: Golden):
    folder = tiny.workdir / "artifacts"
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    golden.same("files.txt", "\n".join(found) + "\n")


class Headings(HTMLParser):
    """Collects a page's headings, one a line, without markup."""

    def __init__(self) -> None:
        super().__init__()
        self.level: str | None = None
        self.lines: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in {"h1", "h2", "h3"}:
            self.level = tag
            self.lines.append(f"{tag} ")

    def handle_endtag(self, tag: str) -> None:
        self.level = None if tag == self.level else self.level

    def handle_data(self, data: str) -> None:
        if self.level:
            self.lines[-1] += data.strip()


def test_its_report_has_the_same_sections(tiny: Ended, golden: Golden):
    found = Headings()
    found.feed((tiny.workdir / "artifacts" / "report.html").read_text())
    golden.same("report-headings.txt", "".join(f"{line}\n" for line in found.lines))
