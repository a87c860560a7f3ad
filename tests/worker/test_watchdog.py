"""Time that a run may take, by a clock that the test turns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from retort.settings import Settings
from retort_worker.watchdog import Watchdog


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits(workdir: Path, clock: Clock, **given: Any) -> Watchdog:
    settings = Settings(home=workdir, setup_timeout_s=100, step_timeout_s=10, checkpoint_timeout_s=50)
    made = Watchdog(
        settings, workdir, **{"started": clock.now, "ran_s": 0.0, "max_runtime_s": None, "monotonic": clock, **given}
    )
    made.begin()
    return made


def test_a_job_without_a_limit_never_times_out(tmp_path: Path, clock: Clock):
    watch = limits(tmp_path, clock)
    clock.now += 1e9
    assert watch.timed_out() is None


def test_a_job_times_out_when_all_its_attempts_have_run_for_long_enough(tmp_path: Path, clock: Clock):
    watch = limits(tmp_path, clock, ran_s=40.0, max_runtime_s=100.0)
    clock.now += 59.9
    assert watch.timed_out() is None
    clock.now += 0.1
    failure = watch.timed_out()
    assert failure is not None
    assert (failure.code, failure.retryable) == ("timeout", False)
    assert "100 s" in failure.message
    assert "max_runtime_s" in (failure.hint or "")


@pytest.mark.parametrize(("section", "patience"), [("setup", 100), ("step", 10), ("checkpoint", 50)])
def test_each_section_has_its_own_patience(tmp_path: Path, clock: Clock, section: str, patience: float):
    watch = limits(tmp_path, clock)
    (tmp_path / "pulse").write_text(f"{section} 7\n")
    assert watch.stalled() is None
    clock.now += patience - 1
    assert watch.stalled() is None
    clock.now += 1
    failure = watch.stalled()
    assert failure is not None
    assert (failure.code, failure.retryable) == ("stuck", True)
    assert f"RETORT_{section.upper()}_TIMEOUT_S" in (failure.hint or "")


def test_a_run_that_gets_on_is_never_stuck(tmp_path: Path, clock: Clock):
    watch = limits(tmp_path, clock)
    for count in range(100):
        (tmp_path / "pulse").write_text(f"step {count}\n")
        clock.now += 9
        assert watch.stalled() is None


def test_a_run_that_never_says_anything_has_the_patience_of_a_beginning(tmp_path: Path, clock: Clock):
    (tmp_path / "pulse").write_text("step 3\n")  # an earlier run's
    watch = limits(tmp_path, clock)
    clock.now += 99
    assert watch.stalled() is None
    clock.now += 1
    assert watch.stalled() is not None
