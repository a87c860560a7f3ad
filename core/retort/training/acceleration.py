"""Speed up a training: compiled layers, recorded teachers, memory laid out for the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from retort.spec.hardware import Optimisation
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
    """Tell which optimisations work, after the first batch of *trainer*."""
    found = tuple(_optimisations(trainer))
    for one in found:
        trainer.callback.log(one.sentence, "info" if one.whole else "warning")
    trainer.callback.optimised(found)


def _optimisations(trainer: Any) -> Iterator[Optimisation]:
    layers, slots = trainer.layers, getattr(trainer.network, "slots", ())
    for number, one in enumerate(slots, start=1):
        if (recording := one.teacher.recording) is not None:
            which, done = "teacher" if len(slots) == 1 else f"teacher {number}", recording.has_recorded
            yield Optimisation(
                name=f"{which} recorded", outcome="yes" if done else "no", whole=done,
                reason=None if done else recording.failure,
            )  # fmt: skip
    if layers is not None:
        whole = layers.compiled == layers.number
        yield Optimisation(
            name="student compiled", outcome=f"{layers.compiled} of {layers.number} layers", whole=whole,
            reason=None if whole else layers.reason,
        )  # fmt: skip
    if trainer.device.type == "cuda":  # a CPU's step is in float32 whatever is asked for
        half = "float16" if trainer.amp else "no"
        reason = None if trainer.amp else "training.amp is false"
        yield Optimisation(name="half precision", outcome=half, whole=True, reason=reason)
