"""Distillation losses, one file per kind: writing the file registers it."""

from __future__ import annotations

from typing import Any

from retort.losses.base import CrossedLoss, FeatureLoss, HeadLoss, Loss, Predictions
from retort.schema import discover, tagged_union

AnyLoss: Any = tagged_union(__name__, Loss)
"""The tagged union of all kinds, for use as a pydantic field type."""

LOSS_KINDS: dict[str, type[Loss]] = {cls.model_fields["kind"].default: cls for cls in discover(__name__, Loss)}  # type: ignore[misc]

__all__ = ["LOSS_KINDS", "AnyLoss", "CrossedLoss", "FeatureLoss", "HeadLoss", "Loss", "Predictions"]
