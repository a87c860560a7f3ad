"""Progress adds up the stages, and estimates by the speed of this attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
from retort.pipeline.progress import Progress
from retort.protocol import journal
from retort.protocol.events import ProgressEvent
from retort.protocol.journal import Journal


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(path: Path) -> list[tuple[float, float | None]]:
    return [(event.progress, event.eta_s) for event in journal.read(path)[0] if isinstance(event, ProgressEvent)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal-1.jsonl"


def test_stages_count_by_their_cost_and_the_rest_is_estimated(path: Path):
    clock = Clock()
    with Journal(path) as said:
        progress = Progress(said, {"a": 1.0, "b": 3.0}, clock=clock)
        clock.now += 20
        progress.of("a")(0.5)
        clock.now += 20
        progress.of("a")(1.0)
        progress.done("a")
        clock.now += 60
        progress.of("b")(0.5)
    assert told(path) == [(0.125, 140.0), (0.25, 120.0), (0.25, 120.0), (0.625, 60.0)]


def test_what_an_earlier_attempt_has_done_says_nothing_about_speed(path: Path):
    clock = Clock()
    with Journal(path) as said:
        progress = Progress(said, {"a": 9.0, "b": 1.0}, clock=clock)
        progress.done("a")
        clock.now += 30
        progress.of("b")(0.5)
    assert told(path) == [(0.9, None), (0.95, 30.0)]


def test_frequent_news_are_not_written_down_and_there_is_no_estimate_from_the_first_seconds(path: Path):
    clock = Clock()
    with Journal(path) as said:
        tell = Progress(said, {"a": 1.0}, clock=clock).of("a")
        for step in range(100):
            clock.now += 0.05
            tell(step / 100)
    assert 1 <= len(told(path)) <= 4
    assert {eta for _, eta in told(path)} == {None}


def test_progress_never_goes_back(path: Path):
    clock = Clock()
    with Journal(path) as said:
        tell = Progress(said, {"a": 1.0}, clock=clock).of("a")
        for fraction in (0.5, 0.25):  # a training that went back an epoch
            clock.now += 10
            tell(fraction)
    assert [progress for progress, _ in told(path)] == [0.5, 0.5]
