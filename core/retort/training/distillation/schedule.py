"""How the distillation weight moves over the epochs."""

from __future__ import annotations

import math

from retort.spec import Schedule


def factor(schedule: Schedule, epoch: float, *, epochs: int, close_mosaic: int) -> float:
    """Return the factor in 0..1 at *epoch*, counted from 0 and fractional within an epoch.

    Ramps up from 0, then decays to the floor, which it reaches at the end of distillation.
    """
    end = last_epoch(schedule, epochs=epochs, close_mosaic=close_mosaic)
    if epoch >= end:
        return 0.0 if end < epochs else _decayed(schedule, 1.0)
    if epoch < schedule.warmup_epochs:
        return epoch / schedule.warmup_epochs
    return _decayed(schedule, (epoch - schedule.warmup_epochs) / (end - schedule.warmup_epochs))


def last_epoch(schedule: Schedule, *, epochs: int, close_mosaic: int) -> int:
    """Epoch at which distillation ends. A training that never shows mosaic has nothing to stop with."""
    closes = schedule.stop_with_mosaic and 0 < close_mosaic < epochs
    return epochs - close_mosaic if closes else epochs


def _decayed(schedule: Schedule, way: float) -> float:
    """Return the factor at *way* in 0..1 from the end of the ramp to the end of distillation."""
    falls = {"none": 1.0, "linear": 1 - way, "cosine": (1 + math.cos(math.pi * way)) / 2}
    return schedule.floor + (1 - schedule.floor) * falls[schedule.decay]
