"""Prepare the process environment: Ultralytics, torch, cores, shared memory."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from retort.constants import VALIDATION_BATCH

VARIABLES = {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "ULTRALYTICS_SAFE_LOAD": "1",
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "disabled",
    "COMET_MODE": "disabled",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait by spinning starve whatever shares the cores
}
"""What every process that imports Ultralytics here must have, whatever it was started with."""
_KEPT = {-3: 2**30, -1: 2**31 - 1, -2: 2**26}
"""glibc's malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, in bytes."""


def prepare(config_dir: Path, *, rank: bool = False) -> None:
    """Set the environment of this process.

    *config_dir* receives Ultralytics' settings file and caches. A *rank* of a distributed run keeps its number, and its
    share of the cores.

    Must come before the first import of Ultralytics, which reads it once. Calling it again changes nothing.
    """
    if "ultralytics" in sys.modules:
        assert is_prepared(), "Ultralytics was imported before its environment was prepared"
        return
    config_dir.mkdir(parents=True, exist_ok=True)
    os.environ.update(VARIABLES)
    os.environ["YOLO_CONFIG_DIR"] = str(config_dir)
    # Only in a lone process: these name ranks of a distributed run, and Ultralytics believes them.
    for name in () if rank else ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        os.environ.pop(name, None)
    os.environ["OMP_NUM_THREADS"] = str(num_cores())  # Ultralytics would write 1
    keep_freed_memory()


def variables(**more: str) -> dict[str, str]:
    """Return this process's environment with *more*, for another process."""
    return {**os.environ, **more}


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for reuse.

    It does so where the library is glibc. By default it hands tensors of some megabytes back to the kernel, which
    clears each page anew in the next step: with the maps of a teacher's first layers that took a tenth of a distilled
    step on a CPU. A process trains and ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for which, size in _KEPT.items():
            mallopt(which, size)


def is_prepared() -> bool:
    """Return True if the environment is the one Ultralytics must read."""
    return all(os.environ.get(name) == value for name, value in VARIABLES.items())


def num_cores() -> int:
    """Return the number of cores that this process may use.

    Ranks of one training share the machine's.
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, found // int(os.environ.get("WORLD_SIZE", "1")))


def num_workers(most: int | None = None) -> int:
    """Return the number of processes that load images.

    There is one for each core, eight at most; *most* where that is known to be too many.
    """
    return min(8, num_cores(), 8 if most is None else most)


def rank() -> int:
    """Return this process's rank on its machine, given by torchrun."""
    return int(os.environ["LOCAL_RANK"])


PREFETCH, VALIDATION_PREFETCH = 4, 2
"""Batches that each process has ready: ours for training; upstream's for validation, torch's for unlabelled images."""
_VALIDATION_PROCESSES = 2
"""For each one of training, as upstream has it."""
_PADDING = 32
"""Pixels by which upstream's validation images may be wider than training's."""
_MARGIN = 0.8
"""Part of what is free that may be used: others use it too."""
_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps it


@dataclass(frozen=True, slots=True)
class SharedMemoryDemand:
    """Peak shared memory of one rank's loaders: uint8 (N, 3, H, W).

    The batches that each process has ready, and those in the trainer's hands. Measured on two processes at most, 320 to
    640 pixels and batches of 4 to 16 by what became used of /dev/shm: 1% more than this at most, of both loaders.
    """

    batch: int
    """One rank's."""
    imgsz: int
    validation: int = VALIDATION_BATCH
    """Images of a validation batch."""
    unlabelled: int = 0
    """Images without labels in a step."""
    trains: bool = True
    """Whether training batches are loaded beside those of the validation."""

    def size_bytes(self, workers: int) -> int:
        """Return the bytes for *workers* processes; 0 without processes."""
        if workers == 0:
            return 0
        side = self.imgsz + _PADDING
        validation = workers * (_VALIDATION_PROCESSES if self.trains else 1) * VALIDATION_PREFETCH + 1
        size = 3 * self.validation * side**2 * validation
        if self.trains:
            size += 3 * self.batch * self.imgsz**2 * (workers * PREFETCH + 2)
        if self.unlabelled:
            size += 3 * self.unlabelled * self.imgsz**2 * (workers * VALIDATION_PREFETCH + 1)
        return size


def free_bytes(folder: Path = _FOLDER) -> int | None:
    """Return the free shared memory in bytes; None when unknown."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def affordable(wanted: int, demand: SharedMemoryDemand, free: int | None, *, ranks: int = 1) -> int:
    """Return how many loader processes fit into *free* bytes over *ranks*."""
    if free is None:
        return wanted
    return max(n for n in range(wanted + 1) if ranks * demand.size_bytes(n) <= free * _MARGIN)


def cap_workers(
    wanted: int, demand: SharedMemoryDemand, free: int | None, log: Callable[..., None], *, ranks: int = 1
) -> int:
    """Return the affordable number of processes; log a reduction."""
    fitting = affordable(wanted, demand, free, ranks=ranks)
    if fitting < wanted:
        need_mib, free_mib = ranks * demand.size_bytes(wanted) >> 20, (free or 0) >> 20
        log(
            f"shared memory has {free_mib} MiB free, and {ranks * wanted} loader processes would need {need_mib} MiB: "
            f"{ranks * fitting} are started; give the worker's container more (shm_size)",
            "warning",
            free_mib=free_mib,
            need_mib=need_mib,
            workers=fitting,
        )
    return fitting
