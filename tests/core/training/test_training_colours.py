"""Colours are OpenCV's on every device, at a fraction of the memory traffic, and where the training does not wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from retort.training.data.colours import KEY, WAITING, ColourPlace, SharedSwitch, coloured, lookup_table, recoloured
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Traffic(TorchDispatchMode):
    """Counts operations, and the bytes of memory that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.is_view:
            touched = tree_leaves((args, kwargs or {}, made))
            self.operations += 1
            self.bytes += sum(one.nbytes for one in touched if isinstance(one, torch.Tensor))
        return made


def tables(images: int, seed: int = 0) -> torch.Tensor:
    """Of changes as strong as they may be."""
    draw = np.random.default_rng(seed)
    return torch.from_numpy(np.concatenate([lookup_table(draw.uniform(-1, 1, 3)) for _ in range(images)]))


@pytest.mark.parametrize("side", [32, 96, 160])
def test_colours_are_opencvs_to_the_bit(side: int) -> None:
    pixels = np.random.default_rng(side).integers(0, 256, (18, side, side, 3), dtype=np.uint8)  # RGB
    changes = tables(18)
    expected = [
        cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table.numpy()[None]), cv2.COLOR_HSV2RGB)
        for image, table in zip(pixels, changes, strict=True)
    ]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    found = coloured({"img": images, KEY: changes})
    assert KEY not in found
    assert torch.equal(found["img"].permute(0, 2, 3, 1), torch.from_numpy(np.stack(expected)))


def test_every_eighth_of_all_colours_is_opencvs() -> None:
    levels = torch.arange(0, 256, 2, dtype=torch.uint8)
    pixels = torch.cartesian_prod(levels, levels, levels).reshape(1, 1024, 2048, 3)
    change = tables(1)
    hsv = cv2.LUT(cv2.cvtColor(pixels[0].numpy(), cv2.COLOR_RGB2HSV), change.numpy())
    found = recoloured(pixels.permute(0, 3, 1, 2), change)
    assert np.array_equal(found[0].permute(1, 2, 0).numpy(), cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def test_a_change_of_colours_moves_few_bytes() -> None:
    """In floating point it took 53 operations and 220 bytes for each of an image; both tables count each time."""
    images, changes = torch.zeros(16, 3, 320, 320, dtype=torch.uint8), tables(16)
    coloured({"img": images[:1], KEY: changes[:1]})  # makes the tables
    with Traffic() as traffic:
        coloured({"img": images, KEY: changes})
    assert traffic.operations <= 14
    assert traffic.bytes - (256**3 + 180 * 256**2) * 4 < 32 * images.nbytes


class Clock:
    """Goes on only where a batch is waited for, and where one is trained on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def epoch(self, place: ColourPlace, batches: int, *, waited_s: float) -> None:
        """Train *batches*, a second each."""
        for _ in place.watch(self._load(batches, waited_s)):
            self.now += 1.0

    def _load(self, batches: int, waited_s: float) -> Iterator[dict[str, Any]]:
        for _ in range(batches):
            self.now += waited_s
            yield {}


@pytest.mark.parametrize(("waited_s", "expected"), [(0.5, True), (0.04, True), (0.02, False), (0.0, False)])
def test_the_gpu_changes_colours_only_where_a_training_waits_for_images(waited_s: float, expected: bool) -> None:
    said: list[str] = []
    switch, clock = SharedSwitch(), Clock()
    place = ColourPlace(switch, lambda message, **_: said.append(message), skipped=4, window=10, clock=clock)
    assert WAITING == 0.03
    clock.epoch(place, 14, waited_s=waited_s)
    assert not switch.is_on, "neither the first batch of an epoch counts, nor those that the loader begins with"
    clock.epoch(place, 20, waited_s=waited_s)
    assert switch.is_on is expected
    assert len(said) == expected
    if expected:
        assert "of its time over 10 batches: the GPU changes their colours from here on" in said[0]


def test_a_wait_at_the_start_of_an_epoch_does_not_count() -> None:
    switch, clock = SharedSwitch(), Clock()
    place = ColourPlace(switch, lambda *_, **__: None, skipped=0, window=5, clock=clock)
    for _ in range(20):
        clock.epoch(place, 1, waited_s=10.0)
    assert not switch.is_on
