"""Assign GPUs to runs, and check that their memory is freed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from retort.nvml import GpuDescription, handle_of, is_part, nvml, used_bytes


@dataclass(frozen=True, slots=True)
class Device:
    """Device of one run: name, index and environment variables."""

    name: str
    index: str
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    """By the driver's numbers or UUIDs; empty on a CPU."""
    cpu_allowed: bool = True
    """Whether the operator lets the CPU stand in where they cannot be used."""


CPU = Device("cpu", "cpu")


class DevicePool:
    """Pool of free slots and free GPUs.

    Each run has its GPUs alone, and sees no other. Some may be refused: no run gets them. Where all are, the CPU takes
    the jobs that it may: those that require no GPU where the operator allows it (*cpu_allowed*), else those whose specs
    let it stand in.
    """

    def __init__(self, slots: int = 0, gpus: Sequence[str] = (), *, cpu_allowed: bool = False) -> None:
        self._lock = threading.Lock()
        self._wanted = slots
        self._order = tuple(gpus)
        self._gpus = set(gpus)
        self._running = 0
        self._quarantined: set[str] = set()
        self._refused: dict[str, str] = {}
        self._known: dict[str, GpuDescription] = {}
        self._allowed = cpu_allowed

    @property
    def num_slots(self) -> int:
        """Number of runs at a time, at most one for each usable GPU.

        As many as were asked for; 0 asked for as many as possible.
        """
        with self._lock:
            return self._most()

    @property
    def num_free(self) -> int:
        """Number of runs that could begin now with one GPU each."""
        with self._lock:
            left = max(0, self._most() - self._running)
            return min(left, len(self._gpus)) if self._order else left

    @property
    def most_gpus(self) -> int | None:
        """Most GPUs that one run can ever get; None on a CPU.

        On a CPU a run starts as many processes as it likes. Of parts of divided GPUs a run gets one.
        """
        with self._lock:
            if not self._order:
                return None
            there = [name for name in self._order if name not in self._quarantined]
            return max(sum(not is_part(name) for name in there), min(1, len(there)))

    @property
    def cpu_allowed(self) -> bool:
        """Whether the CPU may train jobs that do not require a GPU.

        It may where no GPU was ever meant to be used, and where the operator says so.
        """
        with self._lock:
            return self._may_use_cpu()

    def take(self, gpus: int) -> Device | None:
        """Return a device with *gpus* GPUs; None when not free."""
        with self._lock:
            if self._running >= self._most():
                return None
            if not self._order:
                self._running += 1
                return CPU if self._may_use_cpu() else replace(CPU, cpu_allowed=False)
            free = [name for name in self._order if name in self._gpus and (gpus == 1 or not is_part(name))]
            if len(free) < gpus:
                return None
            taken = tuple(free[:gpus])
            self._running += 1
            self._gpus -= set(taken)
        names = ",".join(taken)
        return Device(f"cuda:{names}", "0", {"CUDA_VISIBLE_DEVICES": names}, taken, self._allowed)

    def give_back(self, device: Device, *, unclean: Sequence[str] = ()) -> None:
        """Free the slot and the GPUs; quarantine the *unclean* ones."""
        with self._lock:
            self._running -= 1
            self._gpus |= set(device.gpus) - set(unclean) - self._refused.keys()
            self._quarantined |= set(unclean) - self._refused.keys()

    def quarantined(self) -> list[str]:
        """Return the quarantined GPUs, which no run gets."""
        with self._lock:
            return sorted(self._quarantined)

    def refused(self) -> dict[str, str]:
        """Return the GPUs that cannot be used, with the reasons."""
        with self._lock:
            return dict(self._refused)

    def usable(self) -> tuple[str, ...]:
        """Return the GPUs that runs get, or have."""
        with self._lock:
            return self._order

    def refuse(self, gpu: str, why: str) -> None:
        """Give a GPU to no further run: it cannot be used."""
        with self._lock:
            self._order = tuple(name for name in self._order if name != gpu)
            self._gpus.discard(gpu)
            self._quarantined.discard(gpu)
            self._refused[gpu] = why

    def renew(self, known: Mapping[str, GpuDescription], *, usable: Sequence[str], refused: Mapping[str, str]) -> None:
        """Add *usable* GPUs; remember why others are *refused*, and what is *known*."""
        with self._lock:
            self._known.update(known)
            self._order = tuple(dict.fromkeys((*self._order, *usable)))
            self._gpus |= set(usable)
            of_before = {name: why for name, why in self._refused.items() if name in known}
            self._refused = {name: why for name, why in {**of_before, **refused}.items() if name not in self._order}

    def release(self, gpu: str) -> None:
        """Take a GPU that is clean again out of quarantine."""
        with self._lock:
            if gpu in self._quarantined:
                self._quarantined.discard(gpu)
                self._gpus.add(gpu)

    def declared(self) -> list[dict[str, Any]]:
        """Return the description of all devices, for the worker's row in the database."""
        with self._lock:
            told = [self._told(name) for name in dict.fromkeys((*self._order, *self._refused))]
            if not self._order:
                told.append(
                    _device("cpu", GpuDescription("cpu", refused=None if self._may_use_cpu() else CPU_NOT_ALLOWED))
                )
        return told

    def _may_use_cpu(self) -> bool:
        return self._allowed or not (self._order or self._refused)

    def _told(self, name: str) -> dict[str, Any]:
        why = self._refused.get(name) or (NOT_CLEAN if name in self._quarantined else None)
        return _device("gpu", replace(self._known.get(name, GpuDescription(name)), refused=why))

    def _most(self) -> int:
        if not self._order:
            return 1 if self._refused else self._wanted or 1  # what was asked for was meant for GPUs
        return min(self._wanted or len(self._order), len(self._order))


NOT_CLEAN = "its driver does not show that an ended run has left it: it is given out again once no process is there"
CPU_NOT_ALLOWED = (
    "this worker's GPUs cannot be used: the CPU takes only jobs with resources.require_gpu: false, "
    "or all that do not require a GPU where RETORT_CPU_FALLBACK=true"
)


def _device(kind: str, gpu: GpuDescription) -> dict[str, Any]:
    return {"kind": kind, **asdict(gpu)}


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
    handle = handle_of(library, gpu)
    processes = library.nvmlDeviceGetComputeRunningProcesses(handle)
    return GpuUsage(frozenset(one.pid for one in processes), used_bytes(library, handle))
