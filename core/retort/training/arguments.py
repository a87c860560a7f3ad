"""A plan in the words of upstream's arguments."""

from __future__ import annotations

from typing import Any

from retort.training.environment import num_workers
from retort.training.plan import Plan


def arguments(plan: Plan) -> dict[str, Any]:
    """Upstream's arguments for *plan*; what is not named here is upstream's default."""
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
        "close_mosaic": training.close_mosaic,
        "seed": training.seed,
        "amp": False,  # decided in _setup_train
        "patience": 0,  # student and control run for the same number of epochs
        "workers": num_workers(plan.loader_workers),  # none on a CPU
        "pretrained": False,
        "plots": False,
        "exist_ok": True,
    }
