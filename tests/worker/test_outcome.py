"""What a run's death tells."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from results import RESULT
from retort.protocol.events import FailedEvent, FinishedEvent, RunFailure, StoppedEvent
from retort_worker.process import classify_exit, tail

FAILED = FailedEvent(n=1, at=0.0, failure=RunFailure(code="diverged", message="no number"))


def test_a_result_counts_also_when_it_came_after_the_order_to_stop():
    outcome = classify_exit(FinishedEvent(n=1, at=0.0, result=RESULT), 0, told_to_stop=True, excerpt="")
    assert outcome.result == RESULT


@pytest.mark.parametrize("last", [None, FAILED, StoppedEvent(n=1, at=0.0)])
def test_whatever_a_run_says_after_the_order_to_stop_is_no_failure(last: FailedEvent | StoppedEvent | None):
    assert classify_exit(last, -9, told_to_stop=True, excerpt="").failure is None


def test_a_failure_keeps_the_end_of_the_log():
    outcome = classify_exit(FAILED, 1, told_to_stop=False, excerpt="Traceback")
    assert outcome.failure == FAILED.failure.model_copy(update={"log_excerpt": "Traceback"})


def test_a_run_that_somebody_else_stopped_is_tried_again():
    outcome = classify_exit(StoppedEvent(n=1, at=0.0), 75, told_to_stop=False, excerpt="")
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.retryable) == ("stopped", True)


@pytest.mark.parametrize(
    ("exit_code", "code", "word"),
    [
        (-signal.SIGKILL, "killed", "memory"),
        (-signal.SIGBUS, "crashed", "shared memory"),
        (3, "crashed", "exit code 3"),
    ],
)
def test_a_death_without_a_last_word_is_named_by_its_signal_or_code(exit_code: int, code: str, word: str):
    failure = classify_exit(None, exit_code, told_to_stop=False, excerpt="").failure
    assert failure is not None
    assert failure.code == code
    assert failure.retryable
    assert word in f"{failure.message} {failure.hint}"


def test_the_excerpt_is_the_end_of_what_this_run_wrote_cut_and_escaped(tmp_path: Path):
    log = tmp_path / "run.log"
    earlier = "of an earlier run\n"
    log.write_text(earlier + "a\rb\n\n" + "x" * 1000 + "\n\x00\x1b[2J\n")
    lines = tail(log, len(earlier)).split("\n")
    assert lines == ["a", "b", "x" * 400, "\\x00\\x1b[2J"]


def test_the_excerpt_of_a_missing_log_is_empty(tmp_path: Path):
    assert tail(tmp_path / "run.log", 0) == ""
