"""How far a run is, over all its stages, and how long the rest will take at the speed measured so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from retort.journal import Journal

_EVERY_S = 2.0
_FIRST_ESTIMATE_S = 10.0
"""Before this the speed is that of imports and first batches, and an estimate would scare people."""


class Progress:
    """Adds up the stages by their cost."""

    def __init__(
        self, journal: Journal, costs: Mapping[str, float], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._journal = journal
        self._costs = dict(costs)
        self._total = sum(costs.values())
        self._clock = clock
        self._started = clock()
        self._told_at = -_EVERY_S
        self._finished = 0.0
        self._worked = 0.0
        """Part of the finished cost that was done by this attempt, and so took time."""
        self._current = 0.0

    def of(self, stage: str) -> Callable[[float], None]:
        """Return the function by which *stage* tells how much of it is done (0 to 1)."""
        return lambda fraction: self._tell(self._costs[stage] * min(1.0, max(0.0, fraction)))

    def done(self, stage: str) -> None:
        """Count *stage* as done; one that told nothing was skipped, and says nothing about speed."""
        self._finished += self._costs[stage]
        self._worked += self._costs[stage] if self._current else 0.0
        self._current = 0.0
        self._say(self._clock())

    def _tell(self, cost: float) -> None:
        self._current = max(self._current, cost)
        now = self._clock()
        if now - self._told_at >= _EVERY_S:
            self._say(now)

    def _say(self, now: float) -> None:
        self._told_at = now
        done = self._finished + self._current
        worked, elapsed = self._worked + self._current, now - self._started
        known = worked > 0 and elapsed >= _FIRST_ESTIMATE_S
        self._journal.progress(done / self._total, (self._total - done) * elapsed / worked if known else None)
