"""Labels assigned by the teacher: what it would assign by hand, for one step only, and refused where it cannot."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import Notebook
from core.training.test_training_distillation import WIDE, join, student_of
from retort.constants import Role
from retort.errors import TeacherMismatch
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import models
from retort.training.config import TrainConfig
from retort.training.distillation.distiller import Distiller
from retort.training.distillation.objective import criteria
from retort.training.trainer import fit
from ultralytics.utils.tal import TaskAlignedAssigner

LOSS = {"kind": "class_logits"}
ORDER = [2, 4, 1]
"""red, green and blue among the teacher's classes."""


class Recorder:
    """An assigner that remembers what it answered."""

    def __init__(self, assigner: Any) -> None:
        self.assigner = assigner
        self.answers: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.answers.append(self.assigner(*args, **kwargs))
        return self.answers[-1]


def record(model: Distiller) -> dict[str, Recorder]:
    """Let the criterion of each branch remember."""
    found = {}
    for name, criterion in criteria(model.student_model).items():
        criterion.assigner = found[name] = Recorder(criterion.assigner)
    return found


def by_hand(network: Any, images: torch.Tensor, batch: dict[str, Any], *, end2end: bool, **topk: int) -> Any:
    """Decode as upstream predicts, and assign each image's one box."""
    network.model[-1].end2end = False
    network.model[-1].xyxy = True
    branch = "one2one" if end2end else "one2many"
    with torch.no_grad():
        raw = network(images)[1]
        found = network.model[-1]._inference(raw[branch] if "one2one" in raw else raw)  # N 4+K A
    points, strides = [], []
    for stride in (8, 16, 32):
        side = 64 // stride
        points += [((x + 0.5) * stride, (y + 0.5) * stride) for y in range(side) for x in range(side)]
        strides += [stride] * side**2
    x, y, w, h = (batch["bboxes"] * 64).unbind(-1)
    boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)[:, None]  # N 1 4
    assigner = TaskAlignedAssigner(num_classes=3, alpha=0.5, beta=6.0, stride=[8, 16, 32], **topk)
    return assigner(
        found[:, 4:][:, ORDER].transpose(1, 2), found[:, :4].transpose(1, 2), torch.tensor(points),
        batch["cls"][:, None], boxes, torch.ones(2, 1, 1),
    )  # fmt: skip


def compare(found: Any, expected: Any) -> None:
    for ours, theirs in zip(found[1:4], expected[1:4], strict=True):  # boxes, scores, foreground
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=1e-2, atol=1e-3)
    assert bool(expected[3].any())


@pytest.mark.parametrize("theirs", ["yolo11n", "yolo26n"])
def test_the_assigned_labels_are_the_teachers_by_hand(
    theirs: str, published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    teacher = models.load(published(theirs, names=WIDE))
    taught = join(student_of("yolov8n"), teacher, LOSS, assignment="teacher")
    alone = join(student_of("yolov8n"), teacher, LOSS)
    seen, own = record(taught), record(alone)

    loss, _ = taught(batch)
    alone(batch)
    loss[:3].sum().backward()

    found = seen["one2many"].answers[0]
    compare(found, by_hand(teacher, batch["img"], batch, end2end=False, topk=10))
    assert not torch.equal(found[2], own["one2many"].answers[0][2])
    assert all(
        p.grad is not None and bool(p.grad.isfinite().all())
        for p in taught.student_model.model[-1].cv2.parameters()  # type: ignore[index,union-attr]
    )


def test_both_branches_of_yolo26_are_assigned_by_their_like_and_by_their_own_where_there_is_none(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    teacher = models.load(published("yolo26n", names=WIDE))
    taught = join(student_of("yolo26n"), teacher, LOSS, assignment="teacher")
    alone = join(student_of("yolo26n"), teacher, LOSS)
    other = join(student_of("yolo26n"), models.load(published("yolo11n")), LOSS, assignment="teacher")
    seen, own, half = record(taught), record(alone), record(other)
    for model in (taught, alone, other):
        model(batch)

    compare(seen["one2many"].answers[0], by_hand(teacher, batch["img"], batch, end2end=False, topk=10))
    compare(seen["one2one"].answers[0], by_hand(teacher, batch["img"], batch, end2end=True, topk=7, topk2=1))
    assert torch.equal(half["one2one"].answers[0][2], own["one2one"].answers[0][2])
    assert not torch.equal(half["one2many"].answers[0][2], own["one2many"].answers[0][2])


def test_the_criterion_is_the_students_own_again_after_the_step_also_after_a_failed_one(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    model = join(student_of("yolov8n"), models.load(published("yolo11n")), LOSS, assignment="teacher")
    model(batch)
    with pytest.raises(KeyError):
        model({"img": batch["img"]})

    for one in (model, deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert isinstance(one.criterion.assigner, TaskAlignedAssigner)


def test_a_teacher_that_is_not_asked_assigns_nothing(published: Callable[..., Path], batch: dict[str, Any]) -> None:
    schedule = {"warmup_epochs": 2, "decay": "none", "floor": 0.0, "stop_with_mosaic": False}
    teacher = models.load(published("yolo11n"))
    taught = join(student_of("yolov8n"), teacher, LOSS, assignment="teacher", schedule=schedule)
    alone = join(student_of("yolov8n"), teacher, LOSS, schedule=schedule)

    assert torch.equal(taught(batch)[0], alone(batch)[0])
    assert taught.objective is not None
    taught.objective.epoch = 1.0
    assert not torch.equal(taught(batch)[0][:3], alone(batch)[0][:3])


def test_pictures_without_a_box_are_background(published: Callable[..., Path], batch: dict[str, Any]) -> None:
    model = join(student_of("yolov8n"), models.load(published("yolo11n")), LOSS, assignment="teacher")
    empty = {"cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4), "batch_idx": torch.zeros(0)}
    loss, items = model({**batch, **empty})

    assert bool(loss.isfinite().all())
    assert items["box_loss"] == 0


def test_a_teacher_that_lacks_a_class_of_the_labels_is_refused(published: Callable[..., Path]) -> None:
    teacher = models.load(published("yolo11n", names={0: "red", 1: "green"}))
    with pytest.raises(TeacherMismatch, match="knows 2 of 3") as caught:
        join(student_of("yolov8n"), teacher, LOSS, assignment="teacher")
    assert "assignment: auto" in str(caught.value.hint)


@pytest.mark.train
def test_a_whole_training_with_every_new_thing(published: Callable[..., Path], data_yaml: Path, tmp_path: Path) -> None:
    training = TrainingSpec(imgsz=64, batch=8, close_mosaic=1, checkpoint_every=2, optimizer="SGD")
    losses = [{"kind": "masked_generative", "weight": 0.1}, {"kind": "cross_kd", "weight": 0.5}]
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=2, training=training,
        folder=tmp_path, device="cpu",
    )  # fmt: skip
    notebook = Notebook()
    schedule = {"stop_with_mosaic": False, "warmup_epochs": 0}
    spec = DistillationSpec.model_validate({"losses": losses, "assignment": "teacher", "schedule": schedule})

    fitted = fit(replace(plan, folder=tmp_path / "run"), notebook, teacher=published("yolo11n"), distillation=spec)

    for epoch in (1, 2):
        for kind in ("masked_generative", "cross_kd"):
            value = notebook.metrics[epoch][f"train/kd/{kind}"]
            assert value is not None
            assert value > 0
    assert sum(p.numel() for p in models.load(fitted.weights).parameters()) == 3_011_433
    assert not any(word in fitted.weights.read_bytes() for word in (b"crossing", b"assignment", b"projectors"))
