"""Validation batches are upstream's to the bit, and no process outlives a pass."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import draw
from PIL import Image
from retort.training.data.validation import ValidationLoader, ValidationSet
from retort.training.ultralytics_api import check_det_dataset
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_dataloader, build_yolo_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """21 images for validation, of another size than the network's."""
    return check_det_dataset(str(draw(tmp_path_factory.mktemp("validation"), num_train=2, num_val=21)))


def ours(data: dict[str, Any], *, room: int = 1 << 30) -> ValidationSet:
    args = get_cfg(overrides={"imgsz": 64})
    return ValidationSet(
        img_path=data["val"], imgsz=64, batch_size=2, augment=False, hyp=args, rect=True, stride=32, pad=0.5,
        task="detect", classes=None, data=data, max_cache_bytes=room,
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(data: dict[str, Any]) -> list[dict[str, Any]]:
    args = get_cfg(overrides={"imgsz": 64})
    dataset = build_yolo_dataset(args, data["val"], 2, data, mode="val", rect=True, stride=32)
    return list(build_dataloader(dataset, batch=2, workers=0, shuffle=False, device="cpu"))


def children() -> set[int | None]:
    return {one.pid for one in multiprocessing.active_children()}


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            same = torch.equal(one[name], value) if isinstance(value, torch.Tensor) else repr(one[name]) == repr(value)
            assert same, name


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("room", [0, 5 * 64 * 64 * 3, 1 << 30], ids=["none kept", "five kept", "all kept"])
def test_batches_are_upstreams_to_the_bit_pass_after_pass(
    data: dict[str, Any], expected: list[dict[str, Any]], workers: int, room: int
) -> None:
    loader = ValidationLoader(ours(data, room=room), 2, workers=workers)
    assert loader.dataset.pictures.num_kept == min(room // (64 * 64 * 3), 21)
    before, state = children(), torch.get_rng_state()
    for _ in range(2):
        assert_same(list(loader), expected)
        assert not children() - before, "nothing of a pass is left"
    assert torch.equal(torch.get_rng_state(), state)


def test_few_processes_load_few_batches_and_one_batch_has_none(data: dict[str, Any]) -> None:
    dataset = ours(data)
    assert ValidationLoader(dataset, 2, workers=8).num_workers <= 2  # for eleven batches
    assert ValidationLoader(dataset, 7, workers=8).num_workers == 0
    assert ValidationLoader(dataset, 21, workers=8).num_workers == 0
    assert not ValidationLoader(dataset, 2, workers=8).pin_memory


def test_a_pass_that_is_left_ends_with_the_loader(data: dict[str, Any]) -> None:
    loader = ValidationLoader(ours(data), 2, workers=2)
    before = len(children())
    next(iter(loader))
    assert len(children()) > before
    loader.close()
    assert len(children()) == before


def test_what_a_batch_shows_may_be_changed_and_the_next_pass_shows_it_whole(
    data: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    dataset = ours(data)
    dataset.load_image(0)[0][:] = 0
    loader = ValidationLoader(dataset, 2, workers=0)
    for batch in loader:
        batch["img"].zero_()
    assert_same(list(loader), expected)


def test_a_file_that_changed_after_its_scan_is_read_as_it_is(tmp_path: Path) -> None:
    data = check_det_dataset(str(draw(tmp_path, num_train=2, num_val=2)))
    ours(data)  # leaves a cache of what it scanned, which another one takes
    changed = next(Path(data["val"]).glob("*.png"))
    with Image.open(changed) as image:
        flat = image.resize((96, 48))
    modified = changed.stat()
    flat.save(changed)
    changed.write_bytes(changed.read_bytes().ljust(modified.st_size, b"\0"))
    os.utime(changed, ns=(modified.st_atime_ns, modified.st_mtime_ns))  # by size and time upstream knows a file
    dataset = ours(data)
    place = dataset.im_files.index(str(changed))
    assert dataset._shapes[str(changed)] == (96, 96), "the scan's"
    image, original, resized = dataset.load_image(place)
    assert (original, resized, image.shape) == ((48, 96), (32, 64), (32, 64, 3))
