"""The distillation section: losses, balance, schedule, and the recipe that fills them in."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from retort.losses import AnyLoss
from retort.spec.recipes import RECIPES, RecipeName
from retort.variants import Frozen


class Schedule(Frozen):
    """How the distillation weight moves over training: ramps up from 0, then decays to the floor."""

    warmup_epochs: float = Field(default=0.0, ge=0, le=1000)
    """Linear ramp from 0 to 1."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """Shape of the way from 1 to the floor after the ramp."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Factor at the last epoch, where decay is not none."""
    stop_with_mosaic: bool = False
    """Distil no more once mosaic is closed."""


class DistillationSpec(Frozen):
    """A recipe names a preset; any field given beside it replaces the preset's."""

    recipe: RecipeName = "balanced"
    losses: tuple[AnyLoss, ...] = Field(min_length=1, max_length=16)
    balance: Literal["none", "task_loss"] = "none"
    """``task_loss``: scale each term, once measured, so that its weight is its share of the task loss."""
    schedule: Schedule

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        preset: dict[str, Any] = RECIPES.get(value.get("recipe", "balanced"), {})
        given = {key: item for key, item in value.items() if item is not None or key not in preset}
        return {**{key: preset[key] for key in ("losses", "balance", "schedule") if key in preset}, **given}
