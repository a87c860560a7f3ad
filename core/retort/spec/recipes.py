"""Named presets of losses, balance, assignment, schedule and head learning rate, fully written into the stored spec."""

from __future__ import annotations

from typing import Any, Literal

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


def preset(recipe: object) -> dict[str, Any]:
    """Return the preset that *recipe* names; the default's for any other value, whose mistake its own field tells."""
    return RECIPES.get(recipe if isinstance(recipe, str) else "balanced", RECIPES["balanced"])
