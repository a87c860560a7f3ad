"""What the processes that run the tests at one time share: the machine's cores, and what is dear to make."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MOST_PROCESSES = 8
"""That run tests at one time."""
GIB_EACH = 4
"""Of memory: each holds a torch, and some start a run, or a service of several processes."""


def cores() -> list[int]:
    """Cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def num_processes() -> int:
    """Processes for ``pytest -n auto``: two for each core that we may use, for many tests only wait."""
    usable = len(cores()) or os.cpu_count() or 1
    room = psutil.virtual_memory().available // (GIB_EACH << 30)
    return max(1, min(MOST_PROCESSES, 2 * usable, room))


def keep_to_own_cores() -> None:
    """Bind this process of pytest-xdist to its share of the cores, and with it all that it starts.

    Torch takes every core it may use, in each process: two trainings on two cores, of two threads each, wait for each
    other's threads most of the time. Variables would not reach all (a run prepares its own, a worker hands on few);
    what the kernel allows does, and it is what `retort.training.environment.num_cores` asks.
    """
    name, count = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    every = cores()
    if not name or count < 2 or not every:
        return
    number, each = int(name.removeprefix("gw")) % count, max(1, len(every) // count)
    os.sched_setaffinity(0, {every[(number * each + index) % len(every)] for index in range(each)})


@dataclass(frozen=True)
class Once:
    """Makes each thing once, whichever process of this session needs it first; the others wait for it."""

    root: Path

    def __call__(self, name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
        """Return the folder that *make* filled, which nobody may write to again, and what it returned."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder, told = self.root / name, self.root / f"{name}.pickle"
        with (self.root / f"{name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not told.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one who failed, or died
                folder.mkdir()
                made = pickle.dumps(make(folder))
                told.write_bytes(made)
        return folder, pickle.loads(told.read_bytes())  # noqa: S301 - our own file
