"""Communicate between the ranks of a training; no-ops in a single process."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from retort.training import ultralytics_api

if TYPE_CHECKING:
    from torch import Tensor, nn

PATIENCE = timedelta(hours=3)
"""How long a rank waits for the others: while the first one measures the teacher, say. A dead rank is noticed at once,
by whoever started it."""

_control: list[Any] = []
"""The group in which ranks agree through the hosts' memory, so that no GPU is waited for."""

_apart: list[bool] = []
"""Not empty while this rank does something that the others do not."""


def join(device: torch.device) -> None:
    """Join the other ranks, over NCCL on GPUs, gloo on CPUs.

    The variables of torchrun say who they are. NCCL connects at its first exchange only, when the training's gradients
    are tied together: until then a teacher is recorded without a thread of NCCL's beside it.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    _control.append(distributed.new_group(backend="gloo", timeout=PATIENCE))


def leave() -> None:
    """Leave the group of ranks."""
    _control.clear()
    distributed.destroy_process_group()


def size() -> int:
    """Return the number of ranks; 1 in a lone process.

    It is 1 also for a rank that works by itself for a while.
    """
    return distributed.get_world_size() if _control and not _apart else 1


def rank() -> int:
    """Return this rank's number; 0 in a lone process."""
    return distributed.get_rank() if _control else 0


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap *model* so that gradients are averaged over the ranks.

    Batch statistics stay each rank's own, as upstream has it. Unused parameters are looked for in every step: a batch
    without objects leaves the box branch without a gradient on its rank alone, and without distillation the projectors
    have none on any.
    """
    if size() == 1:
        return model
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, devices, find_unused_parameters=True, **own_buffers(DistributedDataParallel))


def own_buffers(wrapper: Any) -> dict[str, Any]:
    """Return the option of *wrapper* by which ranks keep their buffers.

    Torch 2.13 gave it another name.
    """
    names = "forward_sync_buffers", "broadcast_buffers"
    return {next(name for name in names if name in inspect.signature(wrapper).parameters): False}


def unwrap(model: Any) -> Any:
    """Return the model without the wrapper for ranks."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def mean(value: Tensor) -> Tensor:
    """Return the mean of detached *value* over ranks; all must call."""
    if size() == 1:
        return value
    shared = value.detach().clone()
    distributed.all_reduce(shared, distributed.ReduceOp.AVG)
    return shared


def means(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of each scalar over the ranks.

    All ranks must call, with the same names.
    """
    if size() == 1 or not values:
        return dict(values)
    shared = mean(torch.stack([value.detach().float() for value in values.values()]))
    return dict(zip(values, shared, strict=True))


def share(number: int) -> float:
    """Return this rank's *number* relative to the mean of all ranks.

    All ranks must call.
    """
    if size() == 1:
        return 1.0
    total = torch.tensor(float(number))
    distributed.all_reduce(total, group=_control[0])
    return number * size() / float(total)


def any_of(condition: bool) -> bool:
    """Return True if *condition* holds on any rank.

    All ranks must call. No GPU is waited for.
    """
    return highest(int(condition)) > 0


def highest(value: int) -> int:
    """Return the highest *value* of all ranks.

    All ranks must call. No GPU is waited for.
    """
    if size() == 1:
        return value
    shared = torch.tensor([value])
    distributed.all_reduce(shared, distributed.ReduceOp.MAX, group=_control[0])
    return int(shared)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let this rank work by itself, without the other ranks.

    No mean is shared, and upstream's validators do not wait for the others.
    """
    kept = [(module, module.RANK, module.LOCAL_RANK) for module in ultralytics_api.VALIDATORS]
    for module in ultralytics_api.VALIDATORS:
        module.RANK = module.LOCAL_RANK = -1
    _apart.append(True)
    try:
        yield
    finally:
        _apart.pop()
        for module, number, local in kept:
            module.RANK, module.LOCAL_RANK = number, local
