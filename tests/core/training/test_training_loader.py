"""Training batches: upstream's augmentation, but each sample a function of seed, epoch and place alone."""

from __future__ import annotations

import random
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from retort.training.data import colours
from retort.training.data.image_cache import ImageCache, budget
from retort.training.data.loader import TrainingLoader, TrainingSet, training_loader, training_set
from retort.training.data.sampler import EpochSampler, Sample, SampleOrder
from retort.training.ultralytics_api import YOLODataset, check_det_dataset
from ultralytics.cfg import get_cfg


@pytest.fixture(scope="module")
def data(data_yaml: Path) -> dict[str, Any]:
    return check_det_dataset(str(data_yaml))


def make(
    data: dict[str, Any], *, seed: int = 0, room: int = 1 << 30, batch: int = 4, later: bool = False, **hyp: Any
) -> TrainingSet:
    args = get_cfg(overrides={"imgsz": 64, **hyp})
    return training_set(
        args, data["train"], batch, data, stride=32, seed=seed, max_cache_bytes=room, colours_later=later
    )


def upstreams(data: dict[str, Any], ours: TrainingSet, **hyp: Any) -> YOLODataset:
    args = get_cfg(overrides={"imgsz": 64, **hyp})
    made = YOLODataset(img_path=data["train"], imgsz=64, batch_size=4, augment=True, hyp=args, data=data, task="detect")
    for index in range(len(made)):  # images that it has, it does not read into its buffer
        made.ims[index], made.im_hw0[index], made.im_hw[index] = ours.load_image(index)
    return made


def sample_of_upstream(theirs: YOLODataset, ours: TrainingSet, sample: Sample) -> dict[str, Any]:
    index = ours.order.index(sample)
    theirs.ims[index] = ours.load_image(index)[0]  # upstream changes colours in place
    theirs.buffer = list(ours.order.pool(sample))
    seed, seed_hsv = ours.order.seeds(sample)
    random.seed(seed)
    np.random.seed(seed_hsv)  # noqa: NPY002
    made: dict[str, Any] = theirs[index]
    return made


@pytest.mark.parametrize(
    "hyp",
    [
        {},
        {"flipud": 0.5, "bgr": 0.5, "mosaic": 0.5},
        {"hsv_h": 0, "hsv_s": 0, "hsv_v": 0},
        {"fliplr": 0, "mosaic": 0, "scale": 0, "translate": 0},
        {"fliplr": 1, "scale": 0.9, "translate": 0.4, "hsv_h": 0.5},
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_numbers_make_upstreams_labels_exactly_and_its_images_nearly(
    data: dict[str, Any], hyp: dict[str, Any], seed: int
) -> None:
    ours = make(data, seed=seed, **hyp)
    theirs = upstreams(data, ours, **hyp)
    assert ours.fast is not None
    for closed in (False, True):
        if closed:
            args = get_cfg(overrides={"imgsz": 64, **hyp})
            ours.close_mosaic(copy(args))
            theirs.close_mosaic(copy(args))
        for place in range(len(ours)):
            sample = Sample(seed, 0, place)
            found, expected = ours.__getitems__([sample]), sample_of_upstream(theirs, ours, sample)
            assert torch.equal(found["bboxes"], expected["bboxes"])
            assert torch.equal(found["cls"], expected["cls"])
            assert found["im_file"] == (expected["im_file"],)
            assert found["ori_shape"] == (expected["ori_shape"],)
            difference = (found["img"][0].int() - expected["img"].int()).abs().float()
            assert difference.mean() < 0.5  # of 255
            assert (difference > 8).float().mean() < 0.01


@pytest.mark.parametrize(
    "strength", [{}, {"hsv_h": 0.5, "hsv_s": 0.9, "hsv_v": 0.9}, {"hsv_h": 0, "hsv_s": 0, "hsv_v": 0}]
)
def test_colours_that_are_left_for_the_device_come_out_the_same_to_the_bit(
    data: dict[str, Any], strength: dict[str, Any]
) -> None:
    now, later = make(data, **strength), make(data, later=True, **strength)
    samples = [Sample(0, 0, place) for place in range(len(now))]
    expected, found = now.__getitems__(samples), later.__getitems__(samples)
    assert colours.KEY not in expected
    assert (colours.KEY in found) == (strength.get("hsv_h") != 0)
    bright = colours.coloured(found)
    assert colours.KEY not in bright
    assert torch.equal(found["bboxes"], expected["bboxes"])
    assert torch.equal(bright["img"], expected["img"])


def test_images_in_bgr_among_others_are_coloured_at_once(data: dict[str, Any]) -> None:
    assert colours.KEY not in make(data, later=True, bgr=0.5).__getitems__([Sample(0, 0, 0)])


def test_loader_processes_leave_the_colours_as_soon_as_they_are_told_and_no_image_changes(data: dict[str, Any]) -> None:
    dataset = make(data)
    loader = training_loader(dataset, 4, workers=2)
    epochs: list[list[dict[str, Any]]] = [list(loader)]
    dataset.colours_later.turn_on()
    epochs += [list(loader) for _ in range(4)]  # what was ready for the next two epochs may have its colours already
    loader.close()
    assert not any(colours.KEY in batch for batch in epochs[0])
    assert all(colours.KEY in batch for batch in epochs[-1])
    expected = training_loader(make(data), 4, workers=0)
    for epoch in epochs:
        for batch, other in zip(epoch, expected, strict=True):
            assert torch.equal(colours.coloured(batch)["img"], other["img"])


EVERYTHING = {"degrees": 30.0, "shear": 5.0, "perspective": 0.0005, "scale": 1.0, "flipud": 0.5, "translate": 0.3}


@pytest.mark.parametrize(
    "hyp",
    [{"degrees": 10.0}, {"mixup": 0.5}, {"cutmix": 1.0}, {"shear": 2.0}, {"perspective": 0.001}, EVERYTHING],
)
def test_what_the_fast_way_does_not_know_is_upstreams_own(data: dict[str, Any], hyp: dict[str, Any]) -> None:
    ours = make(data, **hyp)
    theirs = upstreams(data, ours, **hyp)
    assert ours.fast is None
    before = random.getstate()
    for place in range(4):
        sample = Sample(0, 0, place)
        found = ours.__getitems__([sample])
        assert random.getstate() == before
        expected = sample_of_upstream(theirs, ours, sample)
        random.setstate(before)
        assert torch.equal(found["bboxes"], expected["bboxes"])
        if "mixup" not in hyp and "cutmix" not in hyp:
            assert torch.equal(found["img"][0], expected["img"])


def batches(loader: TrainingLoader) -> list[tuple[Any, ...]]:
    return [(b["im_file"], b["img"].sum().item(), b["bboxes"].sum().item(), b["img"].shape) for b in loader]


def test_an_epoch_is_the_same_with_workers_without_cache_and_after_a_resume(data: dict[str, Any]) -> None:
    alone = training_loader(make(data), 4, workers=0)
    epochs = [batches(alone) for _ in range(3)]
    helped = training_loader(make(data, room=0), 4, workers=2)
    assert helped.num_workers in {1, 2}
    assert [batches(helped), batches(helped)] == epochs[:2]
    helped.close()
    resumed = training_loader(make(data), 4, workers=0)
    resumed.set_epoch(2)
    assert batches(resumed) == epochs[2]
    resumed.set_epoch(1)
    next(iter(resumed))  # left in the middle
    resumed.set_epoch(1)
    assert batches(resumed) == epochs[1]
    orders = [tuple(files for files, *_ in epoch) for epoch in epochs]
    assert len(set(orders)) == 3
    resumed.set_epoch(1, attempt=1)
    assert batches(resumed) != epochs[1]


def test_closing_mosaic_takes_hold_at_once_and_keeps_the_order(data: dict[str, Any]) -> None:
    loader = training_loader(make(data), 4, workers=2)
    first = batches(loader)
    loader.set_epoch(1)
    loader.dataset.close_mosaic(get_cfg(overrides={"imgsz": 64}))
    loader.reset()
    whole = training_loader(make(data, mosaic=0.0), 4, workers=0)
    whole.set_epoch(1)
    assert batches(loader) == batches(whole)
    assert len(first) == 4
    loader.close()


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_an_epoch_without_overlap_and_make_the_lone_processs_steps(world_size: int) -> None:
    order = SampleOrder(seed=5, length=25, batch=6)
    shares = [list(EpochSampler(order, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert {len(share) for share in shares} == {25 // world_size}
    images = [order.index(sample) for share in shares for sample in share]
    assert len(set(images)) == len(images)
    lone = list(EpochSampler(order))
    step = [sample for share in shares for sample in share[: 6 // world_size]]
    assert sorted(step) == lone[:6]


def test_no_two_samples_of_a_training_have_the_same_seeds() -> None:
    order = SampleOrder(seed=0, length=50, batch=8)
    sampler = EpochSampler(order)
    seeds = [order.seeds(sample) for _ in range(20) for sample in sampler]
    assert len(set(seeds)) == 1000


def test_a_mosaic_of_a_large_set_takes_what_every_number_of_workers_has_just_read() -> None:
    order = SampleOrder(seed=0, length=1000, batch=8)
    pool = order.pool(Sample(0, 0, 805))
    assert len(pool) == 64
    assert order.index(Sample(0, 0, 805)) in pool
    assert {order.index(Sample(0, 0, place)) for place in range(736, 744)} <= set(pool)
    assert order.pool(Sample(0, 0, 3)) != order.pool(Sample(1, 0, 3))


def test_images_are_kept_only_as_far_as_they_fit() -> None:
    read: list[int] = []

    def image(index: int) -> np.ndarray[Any, Any]:
        read.append(index)
        return np.full((2, 2, 3), index, np.uint8)

    pictures = ImageCache(image, [(2, 2)] * 5, max_bytes=30, recent=2)
    assert pictures.num_kept == 2
    assert [int(pictures[index][0, 0, 0]) for index in (0, 1, 2, 3, 3, 4, 2)] == [0, 1, 2, 3, 3, 4, 2]
    assert sorted(read[:2]) == [0, 1]
    assert read[2:] == [2, 3, 4, 2]
    assert 0 < budget(2) <= budget(1)
