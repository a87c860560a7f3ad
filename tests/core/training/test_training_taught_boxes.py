"""A cached teacher's boxes go through the augmentation exactly as labels do, and disturb none of these."""

from __future__ import annotations

import shutil
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from retort.errors import DataError
from retort.files import sha256_of
from retort.training.data import taught_boxes
from retort.training.data.loader import TrainingSet, training_set
from retort.training.data.sampler import Sample
from retort.training.data.teacher_cache import CachedBoxes, CacheOrigin, TeacherCache
from retort.training.ultralytics_api import check_det_dataset, ops
from ultralytics.cfg import get_cfg

ORIGIN = CacheOrigin("ab" * 32, ("one", "two", "three"), 64, (), 0.05, "a test")


def make(data: dict[str, Any], taught: Path | None = None, **hyp: Any) -> TrainingSet:
    args = get_cfg(overrides={"imgsz": 64, **hyp})
    return training_set(args, data["train"], 4, data, stride=32, seed=0, max_cache_bytes=1 << 20, taught=taught)


def cache_of(dataset: TrainingSet, path: Path, *, extra: int = 0) -> Path:
    """Write a cache that holds each image's labels, with a probability of its own each, and *extra* boxes beside."""
    found = {}
    draw = np.random.default_rng(0)
    for file, label in zip(dataset.im_files, dataset.labels, strict=True):
        corners = ops.xywh2xyxy(label["bboxes"])
        low = draw.uniform(0, 0.5, (extra, 2))
        more = np.concatenate([low, low + draw.uniform(0.1, 0.5, (extra, 2))], 1).astype(np.float32)
        corners = np.concatenate([corners, more]).astype(np.float32)
        found[sha256_of(Path(file))] = CachedBoxes(corners, draw.uniform(size=(len(corners), 3)).astype(np.float16))
    TeacherCache.of(ORIGIN, found).save(path)
    return path


@pytest.fixture(scope="module")
def data(data_yaml: Path) -> dict[str, Any]:
    return check_det_dataset(str(data_yaml))


WAYS: list[dict[str, Any]] = [
    {},
    {"flipud": 0.5, "mosaic": 0.5},
    {"mosaic": 0, "scale": 0.9, "translate": 0.4},
    {"degrees": 10.0, "shear": 2.0},
    {"perspective": 0.0005},
    {"mixup": 0.5, "flipud": 0.5},
]


@pytest.mark.parametrize("hyp", WAYS, ids=str)
def test_a_box_that_equals_a_label_stays_equal_to_it(data: dict[str, Any], tmp_path: Path, hyp: dict[str, Any]) -> None:
    cache = cache_of(make(data), tmp_path / "cache.npz")
    ours = make(data, cache, **hyp)
    assert (ours.fast is None) == bool({"degrees", "perspective", "mixup"} & hyp.keys())
    for closed in (False, True):
        if closed:
            ours.close_mosaic(copy(get_cfg(overrides={"imgsz": 64, **hyp})))
        batch = ours.__getitems__([Sample(0, 0, place) for place in range(len(ours))])
        boxes = batch[taught_boxes.BOXES]
        labels = torch.cat([batch["batch_idx"][:, None], batch["bboxes"]], 1)
        assert len(labels) >= len(ours)
        # To the rounding of the way from centre and size to corners and back; upstream orders a mixup's by image.
        torch.testing.assert_close(_ordered(boxes), _ordered(labels), rtol=0, atol=1e-5)
        assert batch[taught_boxes.PROBABILITIES].shape == (len(boxes), 3)
        assert batch["cls"].min() >= 0


def _ordered(rows: torch.Tensor) -> torch.Tensor:
    keys = (rows * 1e4).round().tolist()
    return rows[sorted(range(len(rows)), key=lambda index: keys[index])]


@pytest.mark.parametrize("hyp", WAYS, ids=str)
def test_labels_and_pixels_are_those_of_a_plain_training_to_the_bit(
    data: dict[str, Any], tmp_path: Path, hyp: dict[str, Any]
) -> None:
    plain = make(data, **hyp)
    ours = make(data, cache_of(plain, tmp_path / "cache.npz", extra=7), **hyp)
    for epoch in range(3):
        samples = [Sample(epoch, 0, place) for place in range(len(ours))]
        found, expected = ours.__getitems__(samples), plain.__getitems__(samples)
        assert found.keys() - expected.keys() == set(taught_boxes.KEYS)
        assert len(found[taught_boxes.BOXES]) > len(found["cls"])
        for name in ("img", "bboxes", "cls", "batch_idx"):
            assert torch.equal(found[name], expected[name])


def test_each_box_keeps_its_own_probabilities(data: dict[str, Any], tmp_path: Path) -> None:
    cache = cache_of(make(data), tmp_path / "cache.npz", extra=3)
    ours = make(data, cache, mosaic=0, scale=0, translate=0, fliplr=0)
    known = TeacherCache.load(cache)
    sample = Sample(0, 0, 0)
    batch = ours.__getitems__([sample])
    (rows,) = known.rows([sha256_of(Path(batch["im_file"][0]))])
    expected = torch.from_numpy(known.probabilities[rows.start : rows.stop])
    assert torch.equal(batch[taught_boxes.PROBABILITIES], expected)
    assert len(expected) >= 4


def test_labels_that_are_polygons_keep_theirs(data_yaml: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data_yaml.parent, tmp_path / "polygons"))
    for cache in folder.glob("labels/*.cache"):
        cache.unlink()
    for number, label in enumerate(sorted((folder / "labels/train").glob("*.txt"))):
        # A triangle each, which has the box's own corners among its own; every fourth picture has none.
        label.write_text("" if number % 4 == 0 else "1 0.25 0.25 0.75 0.25 0.25 0.75\n")
    (folder / "data.yaml").write_text(data_yaml.read_text().replace(str(data_yaml.parent), str(folder)))
    data = check_det_dataset(str(folder / "data.yaml"))
    plain = make(data)
    assert plain.fast is None
    ours = make(data, cache_of(plain, tmp_path / "cache.npz", extra=2))
    samples = [Sample(0, 0, place) for place in range(len(ours))]
    found, expected = ours.__getitems__(samples), plain.__getitems__(samples)
    for name in ("img", "bboxes", "cls", "batch_idx"):
        assert torch.equal(found[name], expected[name])
    assert len(found[taught_boxes.BOXES]) > len(found["cls"])


def test_an_image_that_the_teacher_has_not_seen_is_told(data: dict[str, Any], tmp_path: Path) -> None:
    TeacherCache.of(ORIGIN, {}).save(tmp_path / "cache.npz")
    with pytest.raises(DataError, match="not asked ahead of time about 16 of the 16 images"):
        make(data, tmp_path / "cache.npz")
