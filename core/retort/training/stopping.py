"""End a training by patience or by time, equal for both arms."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from retort.spec import TrainingSpec
from retort.training.config import StoppedBy

HOUR_S = 3600.0


class StopRule:
    """Rule that says after each epoch whether a training ends before its last one.

    It is called as upstream's early stopping is: with the number of whole epochs, and the epoch's fitness.
    """

    possible_stop = False
    """Upstream asks for it, to validate before it stops; here every epoch is validated."""

    def __init__(self, training: TrainingSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = training.patience
        self._limit_s = None if training.time is None else training.time * HOUR_S
        self._clock = clock
        self._since = clock()
        self.spent_s = 0.0
        """Seconds up to the end of the last whole epoch, over all attempts."""
        self._best: tuple[int, float] = (0, 0.0)
        """The epoch of the best fitness, and that fitness."""
        self.reason: StoppedBy | None = None
        """Why the training ends; None while it goes on."""

    def __call__(self, epoch: int, fitness: float | None) -> bool:
        """Return True to end the training after *epoch*, counted from 1."""
        now = self._clock()
        self.spent_s, self._since = self.spent_s + now - self._since, now
        value = float(fitness or 0.0)
        if value > self._best[1] or self._best[1] == 0:  # as upstream: an mAP of zero counts as no best yet
            self._best = epoch, value
        if self._limit_s is not None and self.spent_s >= self._limit_s:
            self.reason = "time"
        elif self._patience and epoch - self._best[0] >= self._patience:
            self.reason = "patience"
        return self.reason is not None

    def state(self) -> dict[str, Any]:
        """Return what the rule has counted, in plain values."""
        return {"spent_s": self.spent_s, "best": list(self._best), "reason": self.reason}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state()``; time that was spent since then counts too."""
        self.spent_s = max(self.spent_s, state["spent_s"])
        self._best, self.reason = (state["best"][0], state["best"][1]), state["reason"]
