"""Self-fencing: a clock of this machine that ends a run before its lease can be given to another worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

SHARE = 0.8
"""Part of the lease after which a worker that could not renew gives up; the rest covers the kill itself."""


class Fence:
    """Calls *on_expiry* once, from a thread of its own, unless ``renewed`` comes in time.

    A thread, because the supervising one may hang in the very database call that should have renewed the lease. Time is
    counted from before a renewal began, so a slow commit shortens the lease and never lengthens it.
    """

    def __init__(self, lease_s: float, started: float, on_expiry: Callable[[], None]) -> None:
        self._window_s = lease_s * SHARE
        self._deadline = started + self._window_s
        self._on_expiry = on_expiry
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fence", daemon=True)
        self.expired = False

    def renewed(self, started: float) -> None:
        """The lease was renewed by a transaction that began at *started* (time.monotonic())."""
        self._deadline = max(self._deadline, started + self._window_s)

    def expire(self) -> None:
        """The database says that the lease is lost."""
        self.expired = True
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(max(0.0, self._deadline - time.monotonic())):
            if time.monotonic() >= self._deadline:
                self.expired = True
                self._on_expiry()
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
