"""Measure what a training takes of its machine, once an epoch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from retort import nvml
from retort.nvml import GpuLoad

SYSTEM = "system/"
"""The beginning of these metrics' names."""
IMAGES_A_SECOND = f"{SYSTEM}images_per_second"
STEPS = f"{SYSTEM}steps_per_epoch"
_GIB = 2**30


class MachineUse:
    """Use of the machine by one training; unknown figures are left out."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self._gpus = tuple(gpus)
        self._at, self._began, (self._cpu_s, _) = time.monotonic(), time.time(), _processes()

    def of_epoch(self, num_images: int, seconds: float) -> dict[str, float | None]:
        """Return the figures at the end of an epoch's training.

        The load of CPU and GPU is over the time since the epoch before.
        """
        now, (cpu_s, resident_bytes) = time.monotonic(), _processes()
        found: dict[str, float | None] = {}
        if num_images and seconds > 0:
            found[IMAGES_A_SECOND] = num_images / seconds
        if cpu_s is not None and self._cpu_s is not None and now > self._at:
            found[f"{SYSTEM}cpu_percent"] = 100 * max(0.0, cpu_s - self._cpu_s) / (now - self._at)
        if resident_bytes is not None:
            found[f"{SYSTEM}memory_gib"] = resident_bytes / _GIB
        if self._gpus:  # looking for a driver takes a while
            found |= _of_gpus(nvml.load(self._gpus, self._began))
        self._at, self._began, self._cpu_s = now, time.time(), cpu_s
        return found


def gpus_of(device: str, number: int, names: str | None) -> list[str]:
    """Return the names of the *number* GPUs from *device* on; none for a CPU.

    *names* are those that the process sees (CUDA_VISIBLE_DEVICES; None for all).
    """
    if not device.isdecimal():
        return []
    return nvml.visible(names)[int(device) : int(device) + number]


def _of_gpus(loads: Sequence[GpuLoad]) -> dict[str, float | None]:
    """Return the mean load, the fullest memory, the highest temperature and the power of all."""
    figures = {
        "gpu_percent": _over(statistics.fmean, [one.percent for one in loads]),
        "gpu_memory_gib": _over(max, [None if one.memory_bytes is None else one.memory_bytes / _GIB for one in loads]),
        "gpu_temperature_c": _over(max, [one.temperature_c for one in loads]),
        "gpu_power_w": _over(sum, [one.power_w for one in loads]),
    }
    return {f"{SYSTEM}{name}": value for name, value in figures.items() if value is not None}


def _over(sum_up: Callable[[list[float]], float], values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum_up(known) if known and len(known) == len(values) else None


def _processes() -> tuple[float | None, int | None]:
    """Return the CPU seconds and the resident bytes of this process and all that it has started; None if not told."""
    import psutil

    try:
        own = psutil.Process()
        every = [own, *own.children(recursive=True)]
    except (psutil.Error, OSError):
        return None, None
    cpu_s, resident = 0.0, 0
    for one in every:
        try:
            with one.oneshot():
                cpu_s += sum(one.cpu_times()[:4])  # its own, and of those that have ended
                resident += one.memory_info().rss
        except (psutil.Error, OSError):  # it has ended meanwhile
            continue
    return (cpu_s, resident) if resident else (None, None)
