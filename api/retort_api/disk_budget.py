"""Refuse what would fill the disk, before it is full."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from retort.db import Database
from retort.db.stored_bytes import stored_bytes
from retort.errors import TransientError
from retort.settings import Settings
from retort.storage import Store
from starlette.concurrency import run_in_threadpool

_LOOK_S = 5.0
"""Sums of what is stored are as old as this at most."""
_MOMENT_S = 0.25
"""So long space that was there is taken to be there still, for what needs little of it."""
_MIB = 1 << 20
_HINT = "the operator has to make room: retort prune, a larger disk, or {setting}"


class DiskBudget:
    """Budget of free space on the service's disks and of bytes in its store."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: Callable[[], Store],
        *,
        free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._free = free
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._stored: tuple[float, int] | None = None
        self._roomy_until = -math.inf

    def check(self, more_bytes: int = 0) -> None:
        """Refuse *more_bytes* without space for them.

        Raises:
            TransientError: there is none (``storage_full``).

        """
        if (why := self.full(more_bytes)) is not None:
            message, setting = why
            raise TransientError(message, hint=_HINT.format(setting=setting), code="storage_full")

    async def check_lately(self) -> None:
        """Refuse what is small where there was no space a moment ago.

        Raises:
            TransientError: as ``check``.

        """
        if self._monotonic() >= self._roomy_until:
            await run_in_threadpool(self.check)
            self._roomy_until = self._monotonic() + _MOMENT_S

    def full(self, more_bytes: int = 0) -> tuple[str, str] | None:
        """Return why there is no space, and the setting that says so; None otherwise."""
        floor, most = self._settings.min_free_bytes, self._settings.max_store_bytes
        free = self.free_bytes()
        if free is not None and free - more_bytes < floor:
            told = f"the service's disk has {free // _MIB} MiB free, of which {floor // _MIB} MiB are kept free"
            return told, "RETORT_MIN_FREE_BYTES"
        if most is None:
            return None
        stored = self.stored_bytes()
        if stored + max(more_bytes, 1) <= most:
            return None
        return f"the store holds {stored // _MIB} of {most // _MIB} MiB", "RETORT_MAX_STORE_BYTES"

    def free_bytes(self) -> int | None:
        """Return the free bytes of the fuller disk, home's or the store's, if known."""
        found = []
        for folder in (self._settings.home, self._store().folder):
            try:
                if folder is not None:
                    found.append(self._free(folder))
            except OSError:
                continue
        return min(found, default=None)

    def stored_bytes(self) -> int:
        """Return the bytes that the database knows in the store, some seconds old."""
        with self._lock:
            now = self._monotonic()
            if self._stored is None or now - self._stored[0] >= _LOOK_S:
                with self._database.read() as session:
                    self._stored = now, stored_bytes(session)
            return self._stored[1]
