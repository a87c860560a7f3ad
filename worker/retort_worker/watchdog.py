"""Time limits of a run, and the lease that a worker may not outlive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from retort.protocol.events import RunFailure
from retort.protocol.workdir import PULSE, read
from retort.settings import Settings

_WORDS = {"setup": "preparing", "step": "training or evaluating", "checkpoint": "writing its state"}
_LOOK_S = 1.0


class Watchdog:
    """Watchdog of one run: stalls and runtime, by the monotonic clock.

    The clock is this machine's, and counts from *started* on. A worker's heartbeat says that the worker lives; whether
    the run advances is another question, and how long the job may run is a third.
    """

    def __init__(
        self,
        settings: Settings,
        workdir: Path,
        *,
        started: float,
        ran_s: float,
        max_runtime_s: float | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workdir = workdir
        self._monotonic = monotonic
        self._max_runtime_s = max_runtime_s
        self._ends_at = None if max_runtime_s is None else started + max_runtime_s - ran_s
        self._patience_s = {
            "setup": settings.setup_timeout_s,
            "step": settings.step_timeout_s,
            "checkpoint": settings.checkpoint_timeout_s,
        }
        self._beat: tuple[str, int] = ("setup", 0)
        self._beat_at = monotonic()
        self._look_at = 0.0

    def begin(self) -> None:
        """Start watching; ignore an earlier run's heartbeat."""
        (self._workdir / PULSE).unlink(missing_ok=True)
        self._beat, self._beat_at = ("setup", 0), self._monotonic()

    def timed_out(self) -> RunFailure | None:
        """Return the failure of a job that has used up its runtime."""
        if self._ends_at is None or self._monotonic() < self._ends_at:
            return None
        return RunFailure(
            code="timeout",
            message=f"the job has run for {self._max_runtime_s:g} s, as long as its spec or the operator allows",
            hint="raise resources.max_runtime_s, or the operator RETORT_MAX_RUNTIME_S, or train for fewer epochs; "
            "retry goes on where it ended",
        )

    def stalled(self) -> RunFailure | None:
        """Return the failure of a run without progress for too long."""
        now = self._monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + _LOOK_S
        beat = read(self._workdir)
        if beat is not None and beat != self._beat:
            self._beat, self._beat_at = beat, now
        section, patience_s = self._beat[0], self._patience_s[self._beat[0]]
        if now - self._beat_at < patience_s:
            return None
        return RunFailure(
            code="stuck",
            message=f"the run did not get on for {patience_s:g} s while {_WORDS[section]}",
            hint=f"the log has its stacks; raise RETORT_{section.upper()}_TIMEOUT_S if this is how long it takes",
            retryable=True,
        )


SHARE = 0.8
"""Part of the lease after which a worker that could not renew gives up; the rest covers the kill itself."""


class Fence:
    """Timer that calls *on_expiry* unless the lease is ``renewed`` in time.

    It calls from a thread, because the supervising one may hang in the very database call that should have renewed the
    lease. Time is counted from before a renewal began, so a slow commit shortens the lease and never lengthens it.
    """

    def __init__(self, lease_s: float, started: float, on_expiry: Callable[[], None]) -> None:
        self._window_s = lease_s * SHARE
        self._deadline = started + self._window_s
        self._on_expiry = on_expiry
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fence", daemon=True)
        self.expired = False

    def renewed(self, started: float) -> None:
        """Note that a transaction begun at *started* has renewed the lease.

        *started* is a reading of ``time.monotonic()``.
        """
        self._deadline = max(self._deadline, started + self._window_s)

    def expire(self) -> None:
        """Note that the database says the lease is lost."""
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
