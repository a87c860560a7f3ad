"""Prepare the process environment: Ultralytics, torch, cores."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from retort.images import MOST_PIXELS

VARIABLES = {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(MOST_PIXELS),
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


def upstream_folder() -> Path:
    """Return the folder in which Ultralytics may write: this run's own."""
    return Path(os.environ["YOLO_CONFIG_DIR"]) / "ultralytics"


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
