"""Assign GPUs to runs, and check that their memory is freed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from retort.nvml import nvml


@dataclass(frozen=True, slots=True)
class Device:
    """Device of one run: name, index and environment variables."""

    name: str
    index: str
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    """By the driver's numbers or UUIDs; empty on a CPU."""


CPU = Device("cpu", "cpu")


class DevicePool:
    """Pool of free slots and free GPUs.

    Each run has its GPUs alone, and sees no other.
    """

    def __init__(self, slots: int, gpus: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self._order = tuple(gpus)
        self._gpus = set(gpus)
        self._slots = min(slots, len(gpus)) if gpus else slots
        self._quarantined: set[str] = set()
        self.num_slots = self._slots

    @property
    def num_free(self) -> int:
        """Number of runs that could begin now with one GPU each."""
        with self._lock:
            return min(self._slots, len(self._gpus)) if self._order else self._slots

    @property
    def most_gpus(self) -> int | None:
        """Most GPUs that one run can ever get; None on a CPU.

        On a CPU a run starts as many processes as it likes.
        """
        with self._lock:
            return len(self._order) - len(self._quarantined) if self._order else None

    def take(self, gpus: int) -> Device | None:
        """Return a device with *gpus* GPUs; None when not free."""
        with self._lock:
            if not self._slots or (self._order and len(self._gpus) < gpus):
                return None
            self._slots -= 1
            if not self._order:
                return CPU
            taken = tuple(name for name in self._order if name in self._gpus)[:gpus]
            self._gpus -= set(taken)
        names = ",".join(taken)
        return Device(f"cuda:{names}", "0", {"CUDA_VISIBLE_DEVICES": names}, taken)

    def give_back(self, device: Device, *, unclean: Sequence[str] = ()) -> None:
        """Free the slot and the GPUs; quarantine the *unclean* ones."""
        with self._lock:
            self._slots += 1
            self._gpus |= set(device.gpus) - set(unclean)
            self._quarantined |= set(unclean)

    def quarantined(self) -> list[str]:
        """Return the quarantined GPUs, which no run gets."""
        with self._lock:
            return sorted(self._quarantined)

    def release(self, gpu: str) -> None:
        """Take a GPU that is clean again out of quarantine."""
        with self._lock:
            self._quarantined.discard(gpu)
            self._gpus.add(gpu)


_MEMORY_MARGIN_BYTES = 512 << 20
"""What a driver may keep for itself after a run."""
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class GpuUsage:
    """Processes and memory of a GPU at one moment."""

    processes: frozenset[int]
    memory_bytes: int


def gpu_usage(gpus: Sequence[str]) -> dict[str, GpuUsage]:
    """Return the usage of each GPU that the driver can report."""
    seen: dict[str, GpuUsage] = {}
    if not gpus:
        return seen  # looking for a driver takes a while
    with nvml() as library:
        for gpu in gpus if library is not None else ():
            try:
                seen[gpu] = _use(library, gpu)
            except library.NVMLError:
                continue
    return seen


def dirty_gpus(
    before: dict[str, GpuUsage], *, patience_s: float, look: Callable[[Sequence[str]], dict[str, GpuUsage]] = gpu_usage
) -> list[str]:
    """Return the GPUs not clean again after a run within *patience_s*.

    A GPU is clean when its processes and its memory are as they were *before* the run. A driver takes a moment to free
    what a killed process held. One that cannot be asked any more is not clean.
    """
    deadline = time.monotonic() + patience_s
    while True:
        now = look(tuple(before))
        dirty = [gpu for gpu, was in before.items() if gpu not in now or not is_clean(was, now[gpu])]
        if not dirty or time.monotonic() >= deadline:
            return dirty
        time.sleep(_LOOK_S)


def is_unused(gpu: str) -> bool:
    """Return True if the driver reports no process on the GPU."""
    seen = gpu_usage([gpu]).get(gpu)
    return seen is not None and not seen.processes and seen.memory_bytes <= _MEMORY_MARGIN_BYTES


def is_clean(before: GpuUsage, now: GpuUsage) -> bool:
    """Return True if no new process or memory uses the GPU."""
    return now.processes <= before.processes and now.memory_bytes <= before.memory_bytes + _MEMORY_MARGIN_BYTES


def _use(library: Any, gpu: str) -> GpuUsage:
    by_uuid = gpu.startswith(("GPU-", "MIG-"))
    handle = library.nvmlDeviceGetHandleByUUID(gpu) if by_uuid else library.nvmlDeviceGetHandleByIndex(int(gpu))
    processes = library.nvmlDeviceGetComputeRunningProcesses(handle)
    return GpuUsage(frozenset(one.pid for one in processes), _used_bytes(library, handle))


def _used_bytes(library: Any, handle: Any) -> int:
    """Return the memory in use; what the driver keeps for itself (615 MiB on an idle H200) counts in version 1 only."""
    try:
        return int(library.nvmlDeviceGetMemoryInfo(handle, version=library.nvmlMemory_v2).used)
    except library.NVMLError:  # a driver from before version 2
        return int(library.nvmlDeviceGetMemoryInfo(handle).used)
