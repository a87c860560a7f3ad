"""How many loader processes shared memory has room for, measured before they start."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
class Demand:
    """What the loaders of one rank hold in shared memory while nobody takes a batch from them: uint8 (N, 3, H, W).

    The batches that each process has ready, and those in the trainer's hands. Measured on two processes at most, 320 to
    640 pixels and batches of 4 to 16 by what became used of /dev/shm: 1% more than this at most, of both loaders.
    """

    batch: int
    """One rank's."""
    imgsz: int
    unlabelled: int = 0
    """Images without labels in a step."""
    trains: bool = True
    """Whether training batches are loaded beside those of the validation."""

    def size_bytes(self, workers: int) -> int:
        """Return the bytes for so many *workers*; none, where the trainer loads images itself."""
        if workers == 0:
            return 0
        side = self.imgsz + _PADDING
        validation = workers * (_VALIDATION_PROCESSES if self.trains else 1) * VALIDATION_PREFETCH + 1
        size = 3 * 2 * self.batch * side**2 * validation
        if self.trains:
            size += 3 * self.batch * self.imgsz**2 * (workers * PREFETCH + 2)
        if self.unlabelled:
            size += 3 * self.unlabelled * self.imgsz**2 * (workers * VALIDATION_PREFETCH + 1)
        return size


def free_bytes(folder: Path = _FOLDER) -> int | None:
    """Return what is free of shared memory; None where the system does not tell."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def affordable(wanted: int, demand: Demand, free: int | None, *, ranks: int = 1) -> int:
    """Return how many of the *wanted* processes fit into *free* bytes, which so many *ranks* share; 0 is no process."""
    if free is None:
        return wanted
    return max(n for n in range(wanted + 1) if ranks * demand.size_bytes(n) <= free * _MARGIN)


def lowered(wanted: int, demand: Demand, free: int | None, log: Callable[..., None], *, ranks: int = 1) -> int:
    """Return the same, and say it where these are fewer."""
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
