"""The ignore band: boxes that a training neither learns nor takes for background."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core.training.pictures import Notebook
from retort.constants import Role
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import trainer
from retort.training.config import TrainConfig
from retort.training.data import ignore_regions
from retort.training.data.loader import TrainingSet, training_set
from retort.training.data.sampler import Sample
from retort.training.ultralytics_api import check_det_dataset
from ultralytics.cfg import get_cfg


@pytest.fixture
def banded(data_yaml: Path, tmp_path: Path) -> Path:
    """The pictures without any label, each wholly in the ignore band."""
    folder = Path(shutil.copytree(data_yaml.parent, tmp_path / "banded"))
    (folder / "ignore/train").mkdir(parents=True)
    for label in (folder / "labels/train").glob("*.txt"):
        label.write_text("")
        (folder / "ignore/train" / label.name).write_text("1 0.5 0.5 1 1\n")
    for cache in folder.glob("labels/*.cache"):
        cache.unlink()
    (folder / "data.yaml").write_text(data_yaml.read_text().replace(str(data_yaml.parent), str(folder)))
    return folder


def make(folder: Path, **hyp: Any) -> TrainingSet:
    data = check_det_dataset(str(folder / "data.yaml"))
    args = get_cfg(overrides={"imgsz": 64, **hyp})
    return training_set(args, data["train"], 4, data, stride=32, seed=0, max_cache_bytes=1 << 20)


def test_boxes_lie_in_the_folder_beside_the_labels_and_need_not_be_there(tmp_path: Path):
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "ignore/train").mkdir(parents=True)
    (tmp_path / "ignore/train/a.txt").write_text("0 0.5 0.25 0.2 0.1\n\n2 0.1 0.1 0.2 0.2\n")
    first, second = ignore_regions.read([str(tmp_path / f"images/train/{name}.jpg") for name in "ab"])
    assert np.allclose(first, [[0.5, 0.25, 0.2, 0.1], [0.1, 0.1, 0.2, 0.2]])
    assert second.shape == (0, 4)


def test_marked_boxes_are_set_apart_from_the_labels():
    batch = {
        "cls": torch.tensor([[2.0], [ignore_regions.MARK], [0.0]]),
        "bboxes": torch.arange(12.0).view(3, 4),
        "batch_idx": torch.tensor([0.0, 1.0, 1.0]),
        "img": torch.zeros(2, 3, 32, 32),
    }
    found = ignore_regions.split_ignored(batch)
    assert found["cls"].tolist() == [[2.0], [0.0]]
    assert found["batch_idx"].tolist() == [0.0, 1.0]
    assert found[ignore_regions.KEY].tolist() == [[1.0, 4.0, 5.0, 6.0, 7.0]]
    assert (
        ignore_regions.split_ignored(found | {ignore_regions.KEY: None})[ignore_regions.KEY] is None
    )  # nothing is marked any more


def test_an_anchor_is_covered_where_its_centre_lies_in_the_box_of_its_image():
    # Of 64 pixels: 8 x 8, 4 x 4 and 2 x 2 anchors; the box reaches from 8 to 24 across and from 0 to 16 down.
    batch = {"img": torch.zeros(2, 3, 64, 64), ignore_regions.KEY: torch.tensor([[1.0, 0.25, 0.125, 0.25, 0.25]])}
    found = ignore_regions.covered(batch, torch.tensor([8.0, 16.0, 32.0]))
    assert found.shape == (2, 64 + 16 + 4)
    assert not found[0].any()
    assert found[1].nonzero().view(-1).tolist() == [1, 2, 9, 10, 64, 65, 80]  # centres 12, 20; 8, 24; 16


def test_only_background_is_spared():
    plain = torch.nn.BCEWithLogitsLoss(reduction="none")
    scores, targets = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)
    targets[0, 1, 0] = 0.9
    found = ignore_regions.IgnoreRegionLoss(plain, torch.tensor([[True, True, False]]))(scores, targets)
    expected = plain(scores, targets)
    assert found[0, 0].tolist() == [0.0, 0.0]
    assert torch.equal(found[0, 1:], expected[0, 1:])


@pytest.mark.parametrize("hyp", [{}, {"degrees": 5.0}], ids=["ours", "upstream's"])
def test_the_band_goes_through_the_augmentation_like_labels(banded: Path, hyp: dict[str, float]):
    dataset = make(banded, **hyp)
    assert (dataset.fast is None) == bool(hyp)
    batch = dataset.__getitems__([Sample(0, 0, place) for place in range(4)])
    assert (batch["cls"] == ignore_regions.MARK).all()
    assert len(batch["cls"]) >= 4
    apart = ignore_regions.split_ignored(batch)
    assert len(apart["cls"]) == 0
    assert ((apart[ignore_regions.KEY][:, 1:] >= 0) & (apart[ignore_regions.KEY][:, 1:] <= 1)).all()
    assert all(len(label["cls"]) == 0 for label in dataset.labels)  # as they were read


@pytest.mark.train
@pytest.mark.parametrize("taught", [False, True])
def test_a_training_takes_nothing_in_the_band_for_background(
    banded: Path, published: Callable[..., Path], tmp_path: Path, taught: bool
):
    told = Notebook()
    training = TrainingSpec(imgsz=64, batch=4, close_mosaic=0, amp=False, head_lr_multiplier=1.0)
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=banded / "data.yaml", epochs=1, training=training,
        folder=tmp_path / "fit", device="cpu",
    )  # fmt: skip
    # Without a balance, which waits for an object: here are none.
    lessons = {"teacher": published("yolo11n"), "distillation": DistillationSpec(balance="none")} if taught else {}
    trainer.fit(plan, told, **lessons)
    # Mosaics have seams that belong to no picture, where background is taught as ever.
    with_band = told.metrics[1]["train/cls_loss"]
    shutil.rmtree(banded / "ignore")
    trainer.fit(TrainConfig(**{**vars(plan), "folder": tmp_path / "again"}), told, **lessons)
    without = told.metrics[1]["train/cls_loss"]
    assert with_band is not None
    assert without is not None
    assert with_band < without / 2
