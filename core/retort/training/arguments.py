"""Say a plan in the words of Ultralytics."""

from __future__ import annotations

from typing import Any

from retort.spec import AugmentationFields
from retort.training.config import TrainConfig
from retort.training.environment import num_workers

UPSTREAMS = (
    *AugmentationFields.model_fields, "box", "close_mosaic", "cls_pw", "cos_lr", "deterministic", "dfl", "fraction",
    "lrf", "momentum", "multi_scale", "seed", "single_cls", "warmup_epochs", "weight_decay",
)  # fmt: skip
"""Fields of the spec that upstream knows by the same name, with the same meaning."""


def arguments(plan: TrainConfig) -> dict[str, Any]:
    """Return upstream's arguments for *plan*; all others are upstream's defaults."""
    training = plan.training
    return {
        "model": f"{plan.model}.yaml",
        "data": str(plan.data_yaml),
        "save_dir": str(plan.folder),
        "device": plan.device,
        "epochs": plan.epochs,
        "imgsz": training.imgsz,
        "batch": training.batch,
        "nbs": training.nominal_batch,
        "optimizer": training.optimizer,
        "lr0": training.lr,
        **{name: getattr(training, name) for name in UPSTREAMS},
        "cls": training.cls_gain,
        "freeze": list(training.freeze) if isinstance(training.freeze, tuple) else training.freeze,
        "amp": False,  # decided in _setup_train
        "patience": 0,  # our own rule is put in its place in _setup_train
        "workers": num_workers(plan.loader_workers),  # none on a CPU
        "pretrained": False,
        "plots": False,
        "exist_ok": True,
    }
