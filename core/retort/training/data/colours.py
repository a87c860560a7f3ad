"""Change the colours of training images, alike in processes and on a GPU."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

KEY = "hsv"
"""Of a batch's tables, where its colours are still to be changed."""
_AT_ONCE = 16
"""Images: a change of colours takes some eight times the memory of what it changes."""
_HUES = 180
"""Of OpenCV, in bytes."""
WAITING = 0.03
"""Share of its time that a training may wait for images before a GPU changes their colours."""
Array = np.ndarray[Any, Any]


def lookup_table(gains: Array) -> Array:
    """Return the HSV lookup table of *gains* (3,): uint8 (1, 256, 3).

    It says what becomes of each hue, saturation and value.
    """
    x = np.arange(256, dtype=np.float64)
    table = np.empty((1, 256, 3), np.uint8)
    table[0, :, 0] = (x + gains[0] * 180) % 180
    table[0, :, 1] = np.clip(x * (gains[1] + 1), 0, 255)
    table[0, :, 2] = np.clip(x * (gains[2] + 1), 0, 255)
    table[0, 0, 1] = 0  # white stays white
    return table


def coloured(batch: dict[str, Any]) -> dict[str, Any]:
    """Return *batch* with the colours of ``img`` changed by the tables ``hsv``, if any.

    ``img`` (N, 3, H, W) is RGB in bytes; ``hsv`` (N, 256, 3) is of `lookup_table`, in bytes too.
    """
    if KEY not in batch:
        return batch
    images, tables = batch["img"], batch[KEY]
    made = torch.empty_like(images)
    for first in range(0, len(images), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        made[some] = recoloured(images[some], tables[some])
    return {**{name: value for name, value in batch.items() if name != KEY}, "img": made}


def recoloured(images: Tensor, tables: Tensor) -> Tensor:
    """Return *images* with their hues, saturations and values looked up in *tables*.

    *images* (N, 3, H, W) are RGB in bytes, *tables* (N, 256, 3) those of `lookup_table`. OpenCV's own conversions are
    looked up too, so that every device gives what a loader process gives with OpenCV, to the bit. Four bytes of a pixel
    are one number, and one index: that is a seventh of the memory traffic of the same in floating point.
    """
    to_hsv, to_rgb = _conversions(images.device)
    n, _, height, width = images.shape
    rgb = images.new_zeros(n, height, width, 4)
    rgb[..., :3] = images.permute(0, 2, 3, 1)
    svh = to_hsv.index_select(0, rgb.view(torch.int32).flatten())  # N*H*W
    changes = images.new_zeros(n, 4, 256)
    changes[:, :3] = _svh(tables)
    starts = torch.arange(0, n * 4 * 256, 256, dtype=torch.int32, device=images.device)
    places = svh.view(torch.uint8).view(n, -1, 4) + starts.view(n, 1, 4)  # int32
    changed = changes.flatten().index_select(0, places.flatten()).view(torch.int32)
    return to_rgb.index_select(0, changed).view(torch.uint8).view(n, height, width, 4)[..., :3].permute(0, 3, 1, 2)


def _svh(tables: Tensor) -> Tensor:
    """Return *tables* (N, 256, 3) as (N, 3, 256), the hues last."""
    hues, saturations, values = tables.unbind(2)
    return torch.stack([saturations, values, hues], 1)


@cache
def _conversions(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return OpenCV's conversions as tables: RGB to saturation, value and hue, and back; int32, of four bytes each.

    They take 114 MB of *device*, and are made where a GPU changes colours for the first time.
    """
    every = np.arange(1 << 24, dtype="<u4").view(np.uint8).reshape(-1, 4096, 4)
    hsv = cv2.cvtColor(np.ascontiguousarray(every[..., :3]), cv2.COLOR_RGB2HSV)
    known = every[: _HUES * 16, :, [2, 0, 1]]  # hue, saturation, value: hues are the highest byte of an index
    rgb = cv2.cvtColor(np.ascontiguousarray(known), cv2.COLOR_HSV2RGB)
    there, back = (_packed(pixels).to(device) for pixels in (hsv[..., [1, 2, 0]], rgb))
    return there, back


def _packed(pixels: Array) -> Tensor:
    """Return *pixels*, uint8 (..., 3), as int32 (n) whose highest byte is 0."""
    found = np.zeros((*pixels.shape[:-1], 4), np.uint8)
    found[..., :3] = pixels
    return torch.from_numpy(found.view("<i4").ravel())


class SharedSwitch:
    """Switch that processes see which were forked before."""

    def __init__(self, *, on: bool = False) -> None:
        self._byte = mmap.mmap(-1, 1)  # without a file, and shared
        self._byte[0] = on

    @property
    def is_on(self) -> bool:
        """Whether it has been turned on."""
        return bool(self._byte[0])

    def turn_on(self) -> None:
        """Turn it on, for all processes."""
        self._byte[0] = True


class ColourPlace:
    """Leave colours to the loader until the training waits for it.

    From then on the GPU changes them. The images are the same to the bit. It learns how long each batch was waited
    for, and looks at *window* batches at a time, after *skipped* ones with which the processes begin.
    """

    def __init__(
        self, on_gpu: SharedSwitch, log: Callable[..., None], *, skipped: int, window: int = 50,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._on_gpu, self._log, self._clock = on_gpu, log, clock
        self._skipped, self._window = skipped, window
        self._number, self._waited_s, self._whole_s = 0, 0.0, 0.0

    def watch(self, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass the *batches* of an epoch on."""
        source, before = iter(batches), None
        while True:
            asked = self._clock()
            batch = next(source, None)
            if batch is None:
                return
            now = self._clock()
            if before is not None and not self._on_gpu.is_on:  # the first of an epoch comes after a validation
                self._learn(now - asked, now - before)
            before = now
            yield batch

    def _learn(self, waited_s: float, whole_s: float) -> None:
        if self._skipped > 0:
            self._skipped -= 1
            return
        self._number, self._waited_s, self._whole_s = (
            self._number + 1, self._waited_s + waited_s, self._whole_s + whole_s
        )  # fmt: skip
        if self._number < self._window:
            return
        share = self._waited_s / max(self._whole_s, 1e-9)
        if share > WAITING:
            self._on_gpu.turn_on()
            self._log(
                f"the training waited for images {share:.0%} of its time over {self._number} batches: the GPU changes "
                "their colours from here on, which changes no image",
                waited=round(share, 3),
            )
        self._number, self._waited_s, self._whole_s = 0, 0.0, 0.0
