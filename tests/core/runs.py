"""Runs for tests: prepared in a folder, started as real processes, watched through their journals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.training.pictures import draw
from retort.data.inputs import AS_GIVEN, Adjustments
from retort.data.prepare import prepare
from retort.protocol import journal
from retort.protocol.events import AnyEvent
from retort.settings import Settings
from retort.spec import parse_spec

PATIENCE_S = 240.0


def document(home: Path, **changes: Any) -> dict[str, Any]:
    """The smallest job with everything in it; the data set is drawn into *home* once."""
    data = home / "data"
    if not data.exists():
        draw(data, num_train=12, num_val=4)
    return {
        "name": "tiny",
        "data": {"path": str(data)},
        "teacher": {"train": {"model": "yolo11n", "weights": None, "epochs": 1}},
        "student": {"model": "yolov8n", "weights": None},
        "training": {"epochs": 2, "imgsz": 64, "batch": 4, "checkpoint_every": 1, "close_mosaic": 0},
        **changes,
    }


@dataclass(frozen=True)
class Ended:
    """An attempt that is over: what it left in its folder, which any process of the tests may read."""

    workdir: Path
    attempt: int
    code: int

    def said(self) -> list[AnyEvent]:
        return journal.read(self.workdir / f"journal-{self.attempt}.jsonl")[0]

    def log(self) -> str:
        return log_of(self.workdir)

    def told(self) -> tuple[str, int, int]:
        """Itself as JSON."""
        return str(self.workdir), self.attempt, self.code

    @classmethod
    def of(cls, told: tuple[str, int, int]) -> Ended:
        return cls(Path(told[0]), told[1], told[2])


def log_of(workdir: Path) -> str:
    return (workdir / "run.log").read_text(errors="replace")[-3000:]


@dataclass
class Running:
    """A run's process and folder."""

    process: subprocess.Popen[bytes]
    workdir: Path
    attempt: int

    def said(self) -> list[AnyEvent]:
        return journal.read(self.workdir / f"journal-{self.attempt}.jsonl")[0]

    def ended(self) -> Ended:
        """What is left of it, once it is over."""
        return Ended(self.workdir, self.attempt, self.wait())

    def until(self, reached: Callable[[AnyEvent], bool]) -> AnyEvent:
        """Wait for the first event of a kind."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            for event in self.said():
                if reached(event):
                    return event
            assert not ended, f"the run ended with {self.process.returncode}: {self.log()}"
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"the run has not said it: {self.log()}")

    def wait(self) -> int:
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()  # what goes on would slow the tests after this one
            raise AssertionError(f"the run has not ended in {PATIENCE_S:g} s: {self.log()}") from None
        self.let_go()
        return code

    def let_go(self) -> None:
        """Close our end of its standard input: its order to die."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def log(self) -> str:
        return log_of(self.workdir)

    def kill(self) -> None:
        """SIGKILL the whole group, as a worker does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()

    def alive(self) -> bool:
        """Return True if anything of the group is left."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


def start(
    home: Path,
    spec: dict[str, Any],
    *,
    attempt: int = 1,
    workdir: Path | None = None,
    adjustments: Adjustments = AS_GIVEN,
    device: str = "cpu",
    keep_last: bool = False,
) -> Running:
    """Prepare an attempt in ``home/work``, and start it as a worker does: own session, stdin a pipe."""
    workdir = workdir or home / "work"
    settings = Settings(home=home, fetch_weights=False)
    prepare(
        parse_spec(spec), settings, workdir, attempt=attempt, device=device, adjustments=adjustments,
        keep_last=keep_last,
    )  # fmt: skip
    command = [sys.executable, "-m", "retort.run", str(workdir / "spec.json"), str(workdir)]
    with (workdir / "run.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=workdir, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    return Running(process, workdir, attempt)
