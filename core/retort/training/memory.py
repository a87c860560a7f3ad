"""What a device's memory held when a training did not fit into it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from retort.errors import OutOfMemory
from retort.training.plan import Plan

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of a GPU, in bytes."""

    free: int
    total: int
    peak: int
    """The most that this process's tensors have held."""

    @classmethod
    def by(cls, device: str) -> Held | None:
        """Ask the GPU with this number; None for a CPU, and where the GPU does not answer any more."""
        if device == "cpu":
            return None
        try:
            free, total = torch.cuda.mem_get_info(int(device))
            return cls(free, total, torch.cuda.max_memory_allocated(int(device)))
        except RuntimeError:
            return None


@contextmanager
def explained(plan: Plan) -> Iterator[None]:
    """Turn torch's error into one with the numbers that the next job is chosen by.

    Raises:
        OutOfMemory: the device is too small for *plan*.

    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "CUBLAS_STATUS_ALLOC_FAILED" not in str(error):
            raise
        raise too_little(plan, str(error), Held.by(plan.device)) from error


def too_little(plan: Plan, told: str, held: Held | None) -> OutOfMemory:
    """Return the error for *plan*, from what torch has *told* and what the device *held* then."""
    training = plan.training
    asked = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", told)
    parts = [f"{plan.model} does not fit with batch {training.batch} at {training.imgsz} pixels"]
    if asked:
        parts.append(f"{asked[1]} more were asked for")
    if held is not None:
        parts.append(f"{held.free / _GIB:.2f} of {held.total / _GIB:.2f} GiB were free")
        parts.append(f"the training has held {held.peak / _GIB:.2f} GiB at its peak")
    hint = f"a batch below {training.batch}, smaller images or networks, or allow resources.halve_batch"
    return OutOfMemory("; ".join(parts), hint=hint)
