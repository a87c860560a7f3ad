"""The distillation section: losses, balance, schedule, and the recipes that fill them in."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from retort.losses import AnyLoss
from retort.schema import InputModel, field_error, without_default

RecipeName = Literal["balanced", "article", "native"]

RECIPES: dict[str, dict[str, Any]] = {
    # Ours. The teacher's predictions choose the anchors that learn each label (PP-YOLOE), so that labels and teacher
    # pull at the same anchors; there, binary class mimicking (BCKD) and the teacher's distributions of distances (LD),
    # with correlation of neck features (PKD). Weights are shares of the task's gradient, and rare classes have the
    # share of common ones, as in mAP. It does not decay: a patient teacher (Beyer et al., CVPR 2022) teaches on.
    "balanced": {
        "summary": "Labels assigned by the teacher; classes, boxes and features, each a share of the task's gradient; "
        "rare classes as loud as common ones.",
        "losses": [
            {"kind": "class_logits", "weight": 1.0, "class_balance": 1.0},
            {"kind": "dfl", "weight": 0.5, "otherwise": "giou", "class_balance": 1.0},
            {"kind": "pearson", "weight": 0.5, "levels": ["P3", "P4", "P5"]},
        ],
        "balance": "gradient",
        "assignment": "auto",
        "schedule": {"warmup_epochs": 1, "decay": "none", "floor": 0.0, "stop_with_mosaic": False},
        "head_lr_multiplier": 1.0,
    },
    # The founding article: softmax over independent sigmoids (see docs), unnormalised features.
    "article": {
        "summary": "The founding article's: softmax KL 0.7 at T=4, channel L2 0.3 at backbone end and P3, head LR x3.",
        "losses": [
            {"kind": "softmax_kl", "weight": 0.7, "temperature": 4.0},
            {"kind": "channel_l2", "weight": 0.3, "levels": ["backbone", "P3"]},
        ],
        "balance": "none",
        "assignment": "student",
        "schedule": {"warmup_epochs": 0, "decay": "none", "floor": 0.0, "stop_with_mosaic": False},
        "head_lr_multiplier": 3.0,
    },
    # What Ultralytics 8.4.190 ships as distill_model= with dis=6.
    "native": {
        "summary": "What Ultralytics ships: score-weighted L2 at the neck, weight 6.",
        "losses": [{"kind": "score_weighted_l2", "weight": 6.0, "levels": ["P3", "P4", "P5"]}],
        "balance": "none",
        "assignment": "student",
        "schedule": {"warmup_epochs": 0, "decay": "none", "floor": 0.0, "stop_with_mosaic": False},
        "head_lr_multiplier": 1.0,
    },
}


_LOSSES: TypeAdapter[tuple[AnyLoss, ...]] = TypeAdapter(tuple[AnyLoss, ...])
_PRESETS = {name: {**recipe, "losses": _LOSSES.validate_python(recipe["losses"])} for name, recipe in RECIPES.items()}
"""The recipes with their losses read, once for all specs."""


def preset(recipe: object) -> dict[str, Any]:
    """Return the preset that *recipe* names; the default's for any other value, whose mistake its own field tells."""
    return _PRESETS.get(recipe if isinstance(recipe, str) else "balanced", _PRESETS["balanced"])


class Schedule(InputModel):
    """How the distillation weight moves over training: ramps up from 0, then decays to the floor."""

    warmup_epochs: float = Field(default=0.0, ge=0, le=1000, json_schema_extra=without_default)
    """Linear ramp from 0 to 1."""
    decay: Literal["none", "linear", "cosine"] = Field(default="none", json_schema_extra=without_default)
    """Shape of the way from 1 to the floor after the ramp."""
    floor: float = Field(default=0.0, ge=0, le=1, json_schema_extra=without_default)
    """Factor at the last epoch, where decay is not none."""
    stop_with_mosaic: bool = Field(default=False, json_schema_extra=without_default)
    """Distil no more once mosaic is closed."""


class DistillationSpec(InputModel):
    """A recipe names a preset; any field given beside it replaces the preset's."""

    recipe: RecipeName = "balanced"
    """Preset of losses, balance, assignment, schedule and ``training.head_lr_multiplier``."""
    losses: Annotated[tuple[AnyLoss, ...], Field(strict=False)] = Field(
        default=(), min_length=1, max_length=16, json_schema_extra=without_default
    )
    """Terms of the distillation objective; left out, the recipe's."""
    balance: Literal["none", "task_loss", "gradient"] = Field(default="none", json_schema_extra=without_default)
    """What a weight means: a plain factor, the term's share of the task loss (scaled once, by the first steps), or the
    share of the task's gradient that the term's has at the student's neck (measured again and again)."""
    assignment: Literal["student", "teacher", "auto"] = Field(default="student", json_schema_extra=without_default)
    """Whose predictions choose the anchors that learn each ground-truth box. A teacher must know every class for it;
    ``auto`` lets one that does, and else the student."""
    agreement: Literal["none", "gate", "project"] = "none"
    """What becomes of a term whose gradient opposes the task's at the student's neck, as a mean over steps: nothing;
    its weight falls to 0, smoothly (gating by cosine similarity); or the component along the task's gradient is taken
    away (gradient surgery, PCGrad)."""
    schedule: Schedule = Field(default_factory=Schedule, json_schema_extra=without_default)
    """Fields left out are the recipe's."""
    weak_teacher: Literal["warn", "refuse"] = "warn"
    """What to do when the student is better than its teacher before it has learned from it."""
    pilot: bool = Field(default=False, exclude_if=operator.not_)
    """Try the distillation first, in a tenth of the epochs on a part of the training images, and lower or stop it
    where it is not shown to pay; then the student is the control, bit for bit."""

    @property
    def class_balance(self) -> float:
        """How far the losses raise rare classes, at most."""
        return max((getattr(loss, "class_balance", 0.0) for loss in self.losses), default=0.0)

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        """Write the preset out, so that the stored spec no longer depends on what the recipe's name means."""
        if not isinstance(value, dict):
            return value
        chosen = preset(value.get("recipe"))
        document = {**{key: chosen[key] for key in ("losses", "balance", "assignment", "schedule")}, **value}
        if isinstance(document["schedule"], dict):
            document["schedule"] = {**chosen["schedule"], **document["schedule"]}
        return document

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        if all(loss.weight == 0 for loss in self.losses):
            raise field_error(
                "every weight is 0, so nothing is distilled", at="losses", hint="give one a weight above 0"
            )
        return self
