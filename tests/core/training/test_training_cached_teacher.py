"""A student that is taught ahead of time: as by its teacher, without it, and beside the same control."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.test_training_distillation import student_of
from core.training.test_training_unlabelled import more, plan, record
from retort.constants import Role
from retort.errors import DataError
from retort.files import sha256_of
from retort.spec import DistillationSpec
from retort.training import models
from retort.training.config import TeacherConfig, TrainConfig, UnlabelledConfig
from retort.training.data import taught_boxes
from retort.training.data.teacher_cache import TeacherCache
from retort.training.distillation.cached_teacher import CachedNetwork, CachedTeacher
from retort.training.distillation.distiller import make_distiller, run_teachers
from retort.training.teaching_ahead import load_ahead_teacher, origin_of, views_of

__all__ = ["more", "plan"]


@pytest.fixture(scope="module")
def teacher(published: Callable[..., Path]) -> Path:
    return published("yolo11n")


def ask(teacher: Path, images: list[Path], target: Path) -> Path:
    """Ask *teacher* about *images* ahead of time."""
    origin = origin_of(sha256_of(teacher), teacher, 64, ())
    with load_ahead_teacher(teacher, views_of((), 64), "cpu") as ahead:
        found = dict(zip(map(sha256_of, images), ahead(images, lambda: None), strict=True))
    TeacherCache.of(origin, found).save(target)
    return target


@pytest.fixture(scope="module")
def cache(teacher: Path, data_yaml: Path, more: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [*sorted((data_yaml.parent / "images/train").iterdir()), *sorted(more.iterdir())]
    return ask(teacher, images, tmp_path_factory.mktemp("cache") / "cache.npz")


def distiller(student: str = "yolov8n", **spec: Any) -> Any:
    return make_distiller(
        student_of(student), CachedNetwork({0: "red", 1: "green", 2: "blue"}), DistillationSpec(**spec),
        device=torch.device("cpu"), epochs=10, close_mosaic=0, seed=0,
    ).train()  # fmt: skip


def told(batch: dict[str, Any]) -> dict[str, Any]:
    """Add to *batch* a teacher's word on each label: the label's box, seen for sure."""
    boxes = [batch["bboxes"][batch["batch_idx"] == image] for image in range(len(batch["img"]))]
    classes = [batch["cls"][batch["batch_idx"] == image].view(-1).long() for image in range(len(batch["img"]))]
    sure = [torch.nn.functional.one_hot(one, 3) * 0.9 for one in classes]
    return {**batch, **taught_boxes.told(boxes, sure)}


@pytest.mark.parametrize("student", ["yolov8n", "yolo26n"])
def test_boxes_of_the_batch_teach_as_a_teacher_that_gives_boxes(student: str, batch: dict[str, Any]) -> None:
    model = distiller(student)
    model.objective.epoch = 5.0
    assert isinstance(model.teacher, CachedTeacher)
    assert model.objective.labels == ["class_logits", "dfl"]
    loss, items = model(told(deepcopy(batch)))
    loss.sum().backward()
    assert items["kd/class_logits"] > 0
    assert items["kd/dfl"] > 0
    (output,) = run_teachers(model.slots, batch["img"], told(batch))
    assert output.boxes is not None
    middle, size = batch["bboxes"].split(2, 1)
    expected = torch.cat([middle - size / 2, middle + size / 2], 1) * 64
    torch.testing.assert_close(output.boxes.corners, expected)
    assert output.boxes.image.tolist() == [0, 1]
    assert output.boxes.most == 1


def test_a_larger_image_of_the_same_batch_has_larger_boxes(batch: dict[str, Any]) -> None:
    model, seen = distiller(), told(batch)
    small, large = (run_teachers(model.slots, torch.rand(2, 3, side, side), seen)[0].boxes for side in (64, 96))
    assert small is not None
    assert large is not None
    torch.testing.assert_close(small.corners * 1.5, large.corners)


def test_a_cached_teacher_says_nothing_of_images_that_it_was_not_asked_about(batch: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="answers for the images of its cache alone"):
        distiller().teacher(batch["img"])


@pytest.mark.train
def test_a_student_is_taught_ahead_of_time_beside_the_same_control(
    plan: TrainConfig, teacher: Path, cache: Path, more: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teaching = TeacherConfig(unlabelled=UnlabelledConfig(more, ratio=0.5), cache=cache)
    loaded: list[Path] = []
    plain = models.load
    monkeypatch.setattr(models, "load", lambda path, *rest: (loaded.append(Path(path)), plain(path, *rest))[1])
    student, notebook = record(plan, "student", teacher, teaching)
    assert loaded.count(teacher) == 1  # to be measured before the first epoch
    control, _ = record(replace(plan, role=Role.CONTROL), "control", None, TeacherConfig())
    assert len(student.shown) == len(control.shown) == 4
    for ours, theirs in zip(student.shown, control.shown, strict=True):
        for name in ("img", "bboxes", "cls", "batch_idx"):
            assert torch.equal(ours[name], theirs[name])
        assert len(ours[taught_boxes.BOXES])
    owners = student.shown[1][taught_boxes.BOXES][:, 0]
    assert student.shown[1]["unlabelled"].shape == (4, 3, 64, 64)
    assert (owners < 8).any()
    assert (owners >= 8).any()
    assert owners.max() < 12
    assert (notebook.metrics[1]["train/kd_loss"] or 0) > 0
    assert notebook.metrics[1]["health/foreground_anchors"] is not None
    assert "health/teacher_shift" not in notebook.metrics[1]
