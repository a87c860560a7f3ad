"""Devices of a run: their names and out-of-memory reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from retort.errors import OutOfMemory
from retort.foreign import is_out_of_memory
from retort.training.config import TrainConfig


def device_name(device: str) -> str:
    """Return ``cpu``, or the product name of the GPU with this number."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(int(device))


def visible_gpus() -> int:
    """Return the number of GPUs that this process sees."""
    return torch.cuda.device_count()


_GIB = 2**30


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of a GPU, in bytes."""

    free: int
    total: int
    peak: int
    """The most that this process has held, recorded kernels and memory kept for reuse included."""

    @classmethod
    def by(cls, device: str) -> DeviceMemory | None:
        """Return the memory of the GPU *device*, or None.

        None is for a CPU, and for a GPU that does not answer any more.
        """
        if device == "cpu":
            return None
        try:
            free, total = torch.cuda.mem_get_info(int(device))
            return cls(free, total, torch.cuda.max_memory_reserved(int(device)))
        except RuntimeError:
            return None


@contextmanager
def explain_out_of_memory(plan: TrainConfig) -> Iterator[None]:
    """Turn torch's out-of-memory error into one with numbers.

    The next job is chosen by these numbers.

    Raises:
        OutOfMemory: the device is too small for *plan*.

    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory_error(plan, str(error), DeviceMemory.by(plan.device)) from error


def out_of_memory_error(plan: TrainConfig, told: str, held: DeviceMemory | None) -> OutOfMemory:
    """Return the out-of-memory error of *plan*, with numbers to choose a batch."""
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
