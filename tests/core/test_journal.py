"""The journal: whole lines, numbered without gaps, whatever happens while they are written."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from results import RESULT
from retort.constants import Role
from retort.errors import TransientError
from retort.protocol import journal
from retort.protocol.events import LogEvent, MetricEvent, RunFailure
from retort.protocol.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal-1.jsonl"


def test_every_kind_of_event_comes_back_as_it_was_said(path: Path):
    with Journal(path, clock=lambda: 12.5) as said:
        said.stage("distill")
        said.progress(0.25, 60.0)
        said.metric(Role.STUDENT, 3, {"val/mAP50": 0.5})
        said.checkpoint(Role.STUDENT, 3, Path("artifacts/x.pt"), {"val/mAP50": 0.5})
        said.artifact("student.pt", Role.STUDENT, "artifacts/student.pt", metadata={"epoch": 3})
        said.log("careful", "warning", share=0.5)
        said.health(
            rule="overtaken", verdict="warning", epoch=3, message="m", cause="c", advice="a", values={"x": math.nan}
        )
        said.failed(RunFailure(code="diverged", message="no"))
        said.stopped()
        said.finished(RESULT)
    events, offset = journal.read(path)
    assert [event.n for event in events] == list(range(1, 11))
    assert {event.at for event in events} == {12.5}
    assert offset == path.stat().st_size
    kinds = ["stage", "progress", "metric", "checkpoint", "artifact", "log", "health", "failed", "stopped", "finished"]
    assert [event.type for event in events] == kinds
    assert isinstance(events[5], LogEvent)
    assert events[5].data == {"share": 0.5}


def test_values_that_are_not_finite_are_null_and_the_line_is_json(path: Path):
    with Journal(path) as said:
        said.metric(Role.STUDENT, 1, {"a": math.nan, "b": math.inf, "c": None, "d": 1.5})
    (event,), _ = journal.read(path)
    assert isinstance(event, MetricEvent)
    assert event.values == {"a": None, "b": None, "c": None, "d": 1.5}
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_progress_stays_between_nothing_and_everything(path: Path):
    with Journal(path) as said:
        said.progress(-0.1)
        said.progress(1.1)
    assert [event.progress for event in journal.read(path)[0]] == [0.0, 1.0]  # type: ignore[union-attr]


def test_a_reader_sees_no_half_line_and_continues_where_it_was(path: Path):
    with Journal(path) as said:
        said.stage("one")
        first, offset = journal.read(path)
        with path.open("ab") as file:
            file.write(b'{"n": 2, "at"')
        assert journal.read(path, offset) == ([], offset)
        with path.open("ab") as file:
            file.write(b': 1, "type": "stopped"}\n')
    second, end = journal.read(path, offset)
    assert [event.n for event in [*first, *second]] == [1, 2]
    assert end == path.stat().st_size


def test_a_journal_that_does_not_exist_yet_is_empty(path: Path):
    assert journal.read(path) == ([], 0)


def test_a_journal_is_continued_without_its_torn_last_line(path: Path):
    with Journal(path) as said:
        said.stage("one")
        said.stage("two")
    with path.open("ab") as file:
        file.write(b'{"n": 3, "ty')
    with Journal(path) as said:
        said.stage("three")
    assert [(event.n, event.type) for event in journal.read(path)[0]] == [(1, "stage"), (2, "stage"), (3, "stage")]


def test_a_line_that_is_no_event_is_an_error_of_the_world(path: Path):
    path.write_bytes(b'{"n": 1, "type": "nonsense"}\n')
    with pytest.raises(TransientError, match="not an event"):
        journal.read(path)


def test_a_journal_that_shrank_is_an_error_of_the_world(path: Path):
    path.write_bytes(b"")
    with pytest.raises(TransientError, match="shorter"):
        journal.read(path, 10)


def test_threads_do_not_mix_their_lines(path: Path):
    with Journal(path) as said:
        threads = [threading.Thread(target=lambda: [said.log("x" * 2000) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [event.n for event in journal.read(path)[0]] == list(range(1, 201))


def test_a_line_that_does_not_fit_on_the_disk_leaves_the_lines_before_it_readable(path: Path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    script = """
import signal, sys
from pathlib import Path
from retort.errors import TransientError
from retort.protocol.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
said = Journal(Path(sys.argv[1]))
said.log("short")
try:
    said.log("x" * 2000)
except TransientError as error:
    print(error.code)
said.log("short again")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], preexec_fn=limit, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "disk_full"
    assert [event.n for event in journal.read(path)[0]] == [1, 2]


def test_the_journal_can_be_read_by_others_than_its_writer(path: Path):
    before = os.umask(0o022)
    try:
        Journal(path).close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
