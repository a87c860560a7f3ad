"""Decoded training images in memory, within a bounded share of what is free."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np

from retort.training.data.host_memory import available_bytes

Image = np.ndarray[Any, Any]
SHARE = 0.25
"""Of the memory that is free when training starts."""


def budget(world_size: int = 1) -> int:
    """Return the bytes that one process may fill with images.

    There are *world_size* processes; the container's limit is heeded.
    """
    available = available_bytes()  # None where there is no Linux: loader processes would copy what is kept
    return int((available or 0) * SHARE / world_size)


def resized(height: int, width: int, *, imgsz: int) -> tuple[int, int]:
    """Return height and width with the long side at *imgsz*."""
    ratio = imgsz / max(height, width)
    if ratio == 1:
        return height, width
    return min(math.ceil(height * ratio), imgsz), min(math.ceil(width * ratio), imgsz)


class ImageCache:
    """Cache of images by index, within a memory budget.

    As many as fit are kept for good, a few of the others as long as they are recent. The kept ones lie in one array
    without a Python object per image, so forked loader processes share its pages.
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
        self.num_bytes = len(self._pixels)
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
