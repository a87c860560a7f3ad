"""The pulse of a run: a file that changes whenever it gets on, so that its worker can tell work from a hang."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from retort.workdir import PULSE, SECTIONS

_EVERY_S = 0.5
_WIDTH = 32


class Pulse:
    """Beats for the run that works in *folder*: cheap enough for every batch, and never a reason to fail."""

    def __init__(self, folder: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / PULSE
        self._monotonic = monotonic
        self._count = 0
        self._section = ""
        self._beat_at = 0.0

    def beat(self, section: str) -> None:
        """Say that the run gets on, and with what: one of ``retort.workdir.SECTIONS``."""
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
    """Return section and count of the latest beat; None when there is none (yet) that makes sense."""
    try:
        section, count = (folder / PULSE).read_text().split()
        return (section, int(count)) if section in SECTIONS else None
    except (OSError, ValueError):
        return None
