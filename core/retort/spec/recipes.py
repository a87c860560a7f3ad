"""Named presets of losses, balance, schedule and head learning rate, fully written into the stored spec."""

from __future__ import annotations

from typing import Any, Literal

RecipeName = Literal["balanced", "article", "native"]

RECIPES: dict[str, dict[str, Any]] = {
    # Ours. Binary class and box mimicking (BCKD) with correlation of neck features (PKD); each term a share of the
    # task loss, ramped up in the first epoch, decayed like DAMO-YOLO and YOLOv6 do, off without mosaic like RTMDet.
    "balanced": {
        "summary": "Class, box and feature distillation, each a share of the task loss, decaying to the end.",
        "losses": [
            {"kind": "class_logits", "weight": 0.4},
            {"kind": "box_giou", "weight": 0.2},
            {"kind": "pearson", "weight": 0.2, "levels": ["P3", "P4", "P5"]},
        ],
        "balance": "task_loss",
        "schedule": {"warmup_epochs": 1, "decay": "cosine", "floor": 0.05, "stop_with_mosaic": True},
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
        "schedule": {"warmup_epochs": 0, "decay": "none", "floor": 0.0, "stop_with_mosaic": False},
        "head_lr_multiplier": 3.0,
    },
    # What Ultralytics 8.4.190 ships as distill_model= with dis=6.
    "native": {
        "summary": "What Ultralytics ships: score-weighted L2 at the neck, weight 6.",
        "losses": [{"kind": "score_weighted_l2", "weight": 6.0, "levels": ["P3", "P4", "P5"]}],
        "balance": "none",
        "schedule": {"warmup_epochs": 0, "decay": "none", "floor": 0.0, "stop_with_mosaic": False},
        "head_lr_multiplier": 1.0,
    },
}


def preset(recipe: object) -> dict[str, Any]:
    """Return the preset that *recipe* names; the default's for any other value, whose mistake its own field tells."""
    return RECIPES.get(recipe if isinstance(recipe, str) else "balanced", RECIPES["balanced"])
