"""What attempts have measured goes with a job to another machine, in files that never change."""

from __future__ import annotations

import shutil
from pathlib import Path

from retort.constants import Role
from retort.pipeline import history
from retort.protocol.journal import Journal

VALUE = "val/mAP50"


def say(workdir: Path, attempt: int, at: float, steps: range, value: float) -> None:
    workdir.mkdir(exist_ok=True)
    with Journal(workdir / f"journal-{attempt}.jsonl", clock=lambda: at) as journal:
        for step in steps:
            journal.metric(Role.STUDENT, step, {VALUE: value})
            journal.log(f"{step} is done")


def curve(workdir: Path) -> dict[int, float | None]:
    return history.curves(workdir)["student"][VALUE]


def move(files: list[str], here: Path, there: Path) -> None:
    for name in files:
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here / name, there / name)


def test_curves_are_whole_after_a_move_and_the_later_attempts_value_counts(tmp_path: Path):
    here, there = tmp_path / "here", tmp_path / "there"
    say(here, 1, 100.0, range(1, 4), 0.1)
    say(here, 2, 200.0, range(3, 5), 0.2)
    files = history.keep(here)
    assert len(files) == 2
    assert not any("log" in (here / name).read_text() for name in files)
    move(files, here, there)
    say(there, 3, 300.0, range(4, 6), 0.3)
    assert curve(there) == {1: 0.1, 2: 0.1, 3: 0.2, 4: 0.3, 5: 0.3}
    move(history.keep(there), there, tmp_path / "further")
    assert curve(tmp_path / "further") == curve(there)


def test_a_job_that_goes_on_from_anothers_files_does_not_take_its_attempts_for_its_own(tmp_path: Path):
    parent, child = tmp_path / "parent", tmp_path / "child"
    say(parent, 1, 100.0, range(1, 3), 0.1)
    move(history.keep(parent), parent, child)
    say(child, 1, 900.0, range(3, 4), 0.2)
    assert curve(child) == {1: 0.1, 2: 0.1, 3: 0.2}


def test_an_excerpt_is_never_changed_and_the_one_before_stays_for_a_while(tmp_path: Path):
    said: list[list[str]] = []
    contents: dict[str, bytes] = {}
    for step in range(1, 5):
        say(tmp_path, 1, 100.0, range(step, step + 1), 0.1)
        said.append(history.keep(tmp_path))
        for path in (tmp_path / history.FOLDER).iterdir():
            assert contents.setdefault(path.name, path.read_bytes()) == path.read_bytes()
    assert history.keep(tmp_path) == said[-1]
    assert len(contents) == 4
    assert {f"{history.FOLDER}/{path.name}" for path in (tmp_path / history.FOLDER).iterdir()} == {*said[-1], *said[-2]}


def test_a_journal_in_which_nothing_is_measured_or_nothing_is_whole_has_no_excerpt(tmp_path: Path):
    with Journal(tmp_path / "journal-1.jsonl") as journal:
        journal.log("hello")
    (tmp_path / "journal-2.jsonl").write_bytes(b'{"n": 1')
    (tmp_path / "journal-3.jsonl").touch()
    assert history.keep(tmp_path) == []
    assert [path.name for path in history.attempts(tmp_path)] == ["journal-1.jsonl"]
