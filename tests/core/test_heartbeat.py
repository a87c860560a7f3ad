"""A run's pulse changes when it gets on, costs next to nothing, and never fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from core.runs import PATIENCE_S, document, start
from retort.protocol import workdir
from retort.protocol.workdir import Heartbeat


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_beat_counts_on_but_not_more_often_than_twice_a_second(tmp_path: Path):
    clock = Clock()
    heart = Heartbeat(tmp_path, monotonic=clock)
    assert workdir.read(tmp_path) is None
    seen = []
    for _ in range(4):
        heart.beat("step")
        seen.append(workdir.read(tmp_path))
        clock.now += 0.3
    assert seen == [("step", 1), ("step", 1), ("step", 2), ("step", 2)]


def test_another_section_is_told_at_once_and_a_shorter_word_leaves_no_rest_of_a_longer_one(tmp_path: Path):
    heart = Heartbeat(tmp_path, monotonic=Clock())
    for count, section in enumerate(("checkpoint", "step", "setup"), 1):
        heart.beat(section)
        assert workdir.read(tmp_path) == (section, count)


def test_a_pulse_that_cannot_be_written_stops_nothing(tmp_path: Path):
    Heartbeat(tmp_path / "nowhere").beat("step")
    (tmp_path / "pulse").mkdir()
    Heartbeat(tmp_path).beat("step")
    assert workdir.read(tmp_path) is None


def test_what_makes_no_sense_is_no_pulse(tmp_path: Path):
    for text in ("", "step", "step x", "sleep 3", "step 3 4"):
        (tmp_path / "pulse").write_text(text)
        assert workdir.read(tmp_path) is None


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.train
def test_a_run_tells_what_it_is_at_and_prints_its_stacks_when_asked_without_ending(tmp_path: Path):
    training = {"epochs": 50, "imgsz": 64, "batch": 4, "checkpoint_every": 1, "close_mosaic": 0}
    run = start(tmp_path, document(tmp_path, training=training))
    seen: list[str] = []

    def told() -> set[str]:
        assert run.process.poll() is None, run.log()
        beat = workdir.read(run.workdir)
        if beat is not None:
            seen.append(beat[0])
        return set(seen)

    try:
        until(lambda: told() == {"setup", "step", "checkpoint"})
        assert seen[0] == "setup"
        os.kill(run.process.pid, signal.SIGQUIT)
        until(lambda: b"most recent call first" in (run.workdir / "run.log").read_bytes())
    finally:
        run.process.send_signal(signal.SIGTERM)
        code = run.wait()
    assert code == 75
