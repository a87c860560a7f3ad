"""One job's whole life, shared by the tests that look at it; the environment that Ultralytics reads once."""

from __future__ import annotations

import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from core.runs import Ended, document, start
from retort.protocol.events import MetricEvent, StageEvent
from retort.training import environment
from sharing import Once

environment.prepare(Path(tempfile.mkdtemp(prefix="retort-ultralytics-")))


@dataclass(frozen=True)
class Life:
    """Three attempts at one job in one folder: stopped while the teacher trained, killed in mid-distillation, done."""

    home: Path
    stopped: Ended
    killed: Ended
    finished: Ended

    @property
    def workdir(self) -> Path:
        return self.finished.workdir


def live(home: Path) -> list[Any]:
    """Start, stop, start, kill, and start again."""
    spec = document(home)
    stopped = start(home, spec, attempt=1)
    stopped.until(lambda event: isinstance(event, StageEvent) and event.stage == "train_teacher")
    stopped.process.send_signal(signal.SIGTERM)
    stopped.wait()
    killed = start(home, spec, attempt=2)
    killed.until(lambda event: isinstance(event, MetricEvent) and event.role == "student" and event.step == 1)
    killed.kill()
    finished = start(home, spec, attempt=3, keep_last=True)
    assert isinstance(finished.until(lambda event: isinstance(event, StageEvent)), StageEvent)
    return [running.ended().told() for running in (stopped, killed, finished)]


@pytest.fixture(scope="session")
def life(trained: Once) -> Life:
    """The job, its folder and what its attempts said; copy what you write to."""
    home, told = trained("life", live)
    return Life(home, *map(Ended.of, told))
