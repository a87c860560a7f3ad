"""What a training has measured in an epoch, by our metric names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from retort.names import MAP, MAP50
from retort.training.optimizer import learning_rates

VALIDATED = {
    "metrics/precision(B)": "val/precision",
    "metrics/recall(B)": "val/recall",
    "metrics/mAP50(B)": MAP50,
    "metrics/mAP50-95(B)": MAP,
}
"""Upstream's names of what validation measures, and ours."""


def of(trainer: Any) -> dict[str, float | None]:
    """Return the losses, learning rates and validation results of the trainer's epoch; not finite is None."""
    trained = {f"train/{name}": float(value) for name, value in trainer.tloss.items()}
    trained["train/loss"] = sum(
        value
        for name, value in trained.items()
        if not name.startswith("train/kd/")  # which kd_loss sums up
    )
    validated = {VALIDATED.get(name, name): float(value) for name, value in trainer.metrics.items()}
    validated = {name: value for name, value in validated.items() if not name.startswith("val/kd")}
    found = {**trained, **learning_rates(trainer.optimizer), **validated}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def of_all_ranks(validated: Mapping[str, float], share: float) -> dict[str, float]:
    """Correct the losses of a validation that ranks have shared: upstream divides by the first rank's batches.

    *share* is the number of this rank's batches over the mean of all ranks'.
    """
    return {name: value * share if name.endswith("_loss") else value for name, value in validated.items()}
