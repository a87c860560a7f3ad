"""What every training of the benchmarks has: a watcher that prints, and a key of all that decides it."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from retort.constants import MAP, MAP50
from retort.training.bootstrap import Matches
from retort.training.config import TrainCallback


class Printer(TrainCallback):
    """A watcher that prints a line for each epoch and keeps the curve."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.curve: list[list[float | None]] = []
        self.epoch_seconds: list[float] = []
        """Of the processor, for each epoch with its validation, in this process."""
        self._started, self._spent = time.monotonic(), time.process_time()

    def metric(self, step: int, values: dict[str, float | None]) -> None:
        """Keep mAP50 and mAP50-95, and what the epoch has cost."""
        before, self._spent = self._spent, time.process_time()
        if step == 0:
            return
        self.epoch_seconds.append(self._spent - before)
        self.curve.append([values.get(MAP50), values.get(MAP)])
        spent = time.monotonic() - self._started
        print(f"{self.name} epoch {step}: mAP50-95 {values.get(MAP) or 0:.4f} after {spent:.0f} s", flush=True)

    def checkpoint(self, *_: Any) -> None:
        """Nothing is kept of it."""

    def progress(self, _: float) -> None:
        """Not shown."""

    def log(self, message: str, level: str = "info", **_: Any) -> None:
        """Print it."""
        print(f"{self.name} {level}: {message}", flush=True)

    def health(self, finding: Any) -> None:
        """Print a verdict."""
        print(f"{self.name} {finding.verdict} {finding.rule}: {finding.message}", flush=True)

    def stop_requested(self) -> bool:
        """Never."""
        return False


def key_of(*facts: Any) -> str:
    """Identify a run by all that decides it."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def write_matches(path: Path, found: Matches) -> None:
    """Keep *found*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **vars(found))


def read_matches(path: Path) -> Matches:
    """Read what ``write_matches`` has kept."""
    with np.load(path) as kept:
        return Matches(**{**kept, "num_images": int(kept["num_images"])})
