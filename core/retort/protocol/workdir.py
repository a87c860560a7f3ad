"""Define the shared files of the working folder, and the heartbeat."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

SPEC = "spec.json"
LOCK = "run.lock"
"""Held with flock by the run as long as it lives."""
LOG = "run.log"
"""What the run and its children print."""
COMPILED = "compiled"
"""Beside the working folders: what runs have compiled for this machine, for all runs."""
TEACHER_CACHES = "teacher-caches"
"""Beside the working folders: what teachers have said ahead of time, by its digest, for all runs of a project."""
LAST = "last"
"""Folder of the last states of student and control, from which a job is extended."""
ENDED = "ended"
"""Stage of what is saved when all stages are over."""
FINISH = "finish"
"""The worker creates it to have the run finish early; it stays for later attempts."""
PULSE = "pulse"
"""The run rewrites it whenever it gets on: ``<section> <count>``."""

DECISIONS = "decisions.json"
"""The worker writes it: what reviewers have decided about pseudo-labels."""

SECTIONS = ("setup", "step", "checkpoint")
"""What a run can be at: preparing something, going through batches, or writing its state."""


def journal(folder: Path, attempt: int) -> Path:
    """Return the journal's path for an attempt's run."""
    return folder / f"journal-{attempt}.jsonl"


_EVERY_S = 0.5
_WIDTH = 32


class Heartbeat:
    """Heartbeat of the run that works in *folder*.

    It is cheap enough for every batch, and never a reason to fail.
    """

    def __init__(self, folder: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / PULSE
        self._monotonic = monotonic
        self._count = 0
        self._section = ""
        self._beat_at = 0.0

    def beat(self, section: str) -> None:
        """Write a heartbeat of *section*, one of ``retort.protocol.workdir.SECTIONS``."""
        now = self._monotonic()
        if section == self._section and now - self._beat_at < _EVERY_S:
            return
        assert section in SECTIONS, section
        self._count += 1
        self._section, self._beat_at = section, now
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(file, f"{section} {self._count}".ljust(_WIDTH).encode(), 0)
            finally:
                os.close(file)


def read(folder: Path) -> tuple[str, int] | None:
    """Return section and count of the latest heartbeat.

    None when there is no valid one (yet).
    """
    try:
        section, count = (folder / PULSE).read_text().split()
        return (section, int(count)) if section in SECTIONS else None
    except (OSError, ValueError):
        return None
