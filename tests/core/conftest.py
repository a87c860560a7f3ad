"""One job's whole life, shared by the tests that look at it: it is real training, and takes a minute."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from core.runs import Running, document, start
from retort.events import MetricEvent, ProgressEvent, StageEvent


@dataclass
class Life:
    """Three attempts at one job in one folder: stopped while the teacher trained, killed in mid-distillation, done."""

    home: Path
    stopped: Running
    killed: Running
    finished: Running

    @property
    def workdir(self) -> Path:
        return self.finished.workdir


@pytest.fixture(scope="session")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """The job, its folder and what its attempts said."""
    home = tmp_path_factory.mktemp("life")
    spec = document(home)
    stopped = start(home, spec, attempt=1)
    stopped.until(lambda event: isinstance(event, ProgressEvent))
    stopped.process.send_signal(signal.SIGTERM)
    stopped.wait()
    killed = start(home, spec, attempt=2)
    killed.until(lambda event: isinstance(event, MetricEvent) and event.role == "student" and event.step == 1)
    killed.kill()
    finished = start(home, spec, attempt=3)
    assert isinstance(finished.until(lambda event: isinstance(event, StageEvent)), StageEvent)
    finished.wait()
    return Life(home, stopped, killed, finished)
