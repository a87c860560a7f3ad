"""Decoded training images in memory, within a bounded share of what is free."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np

Image = np.ndarray[Any, Any]
SHARE = 0.25
"""Of the memory that is free when training starts."""


def budget(world_size: int = 1) -> int:
    """Bytes that one of *world_size* processes may fill with images; heeds the container's limit."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # no Linux: loader processes would copy what is kept
        return 0
    words = next(line.split() for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    available = int(words[1]) * 1024
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and used.exists() and (text := limit.read_text().strip()).isdigit():
        available = min(available, int(text) - int(used.read_text()))
    return int(max(available, 0) * SHARE / world_size)


def resized(height: int, width: int, *, imgsz: int) -> tuple[int, int]:
    """Return height and width with the long side at *imgsz*."""
    ratio = imgsz / max(height, width)
    if ratio == 1:
        return height, width
    return min(math.ceil(height * ratio), imgsz), min(math.ceil(width * ratio), imgsz)


class Pictures:
    """Images by index: as many as fit are kept for good, a few of the others as long as they are recent.

    The kept ones lie in one array without a Python object per image, so forked loader processes share its pages.
    """

    def __init__(
        self, read: Callable[[int], Image], shapes: Sequence[tuple[int, int]], *, max_bytes: int, recent: int
    ) -> None:
        self._read = read
        self._shapes = shapes
        self._max_recent = recent
        self._recent: OrderedDict[int, Image] = OrderedDict()
        ends = np.cumsum([h * w * 3 for h, w in shapes])
        self.num_kept = int(np.searchsorted(ends, max_bytes, side="right"))
        self._offsets = np.concatenate([[0], ends[: self.num_kept]])
        self._pixels = np.empty(int(self._offsets[-1]), np.uint8)
        self._whole = np.zeros(self.num_kept, bool)
        with ThreadPool() as threads:
            threads.map(self._keep, range(self.num_kept), chunksize=8)

    def __getitem__(self, index: int) -> Image:
        """Return an image, uint8 (h, w, 3), BGR; it must not be written to."""
        if index < self.num_kept and self._whole[index]:
            return self._view(index)
        image = self._recent.pop(index, None)
        image = self._read(index) if image is None else image
        self._recent[index] = image
        if len(self._recent) > self._max_recent:
            self._recent.popitem(last=False)
        return image

    def _keep(self, index: int) -> None:
        image, kept = self._read(index), self._view(index)
        if image.shape == kept.shape:  # a file that changed since it was scanned is read each time
            kept[:] = image
            self._whole[index] = True

    def _view(self, index: int) -> Image:
        first, last = self._offsets[index : index + 2]
        return self._pixels[first:last].reshape(*self._shapes[index], 3)


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
