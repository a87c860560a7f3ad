"""Speed up a training: compiled layers, recorded teachers, memory laid out for the device."""

from __future__ import annotations

from typing import Any

import torch

from retort.training import comm
from retort.training.compiling import CompiledLayers
from retort.training.config import TrainConfig
from retort.training.data.unlabelled import per_step
from retort.training.distillation.distiller import prepare_teachers


def accelerate(network: Any, plan: TrainConfig, device: torch.device) -> CompiledLayers | None:
    """Speed up *network* as *device* and *plan* allow.

    Results stay the same. Returned are its compiled layers, where that is asked for.
    """
    if device.type == "cpu":  # upstream does so on CUDA only; here a step takes a tenth less
        network.to(memory_format=torch.channels_last)
    return CompiledLayers(network) if plan.training.compile else None


def record_teachers(trainer: Any) -> None:
    """Record the kernels of *trainer*'s teachers on a GPU.

    They are recorded for a whole batch of one rank. This is called before the loaders exist, whose threads pin memory:
    beside them a recording fails or hangs. The last batch of an epoch, if it is not whole, and the only one of a data
    set smaller than a batch run without.
    """
    side, ranks = trainer.args.imgsz, comm.size()
    more = per_step(trainer.plan.teaching.unlabelled, trainer.batch_size, ranks)
    prepare_teachers(getattr(trainer.network, "slots", ()), trainer.batch_size // ranks + more, side)


def tell_optimisations(trainer: Any) -> None:
    """Tell, after the first batch of *trainer*, what does run compiled and recorded."""
    if trainer.layers is not None:
        whole = trainer.layers.compiled == trainer.layers.number
        trainer.callback.log(trainer.layers.told, "info" if whole else "warning", compiled=trainer.layers.compiled)
    slots = getattr(trainer.network, "slots", ()) if trainer.device.type == "cuda" else ()
    for number, one in enumerate(slots, start=1):
        which = "teacher" if len(slots) == 1 else f"teacher {number}"
        recorded = one.teacher.is_recorded
        trainer.callback.log(f"{which} recorded: {'yes' if recorded else 'no'}", "info" if recorded else "warning")
