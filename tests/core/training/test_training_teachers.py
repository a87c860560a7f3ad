"""Several teachers of one student: weighted, of different families, widths, sizes and classes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.test_training_distillation import CPU, WIDE, join, student_of
from retort.constants import Level
from retort.errors import TeacherMismatch
from retort.spec import DistillationSpec
from retort.training import models
from retort.training.distillation.distiller import Distiller, TeacherCandidate, make_distiller
from retort.training.distillation.teacher import Teacher

PLAIN = {"warmup_epochs": 0, "decay": "none", "stop_with_mosaic": False}
LOSSES = ({"kind": "class_logits", "weight": 0.5}, {"kind": "box_giou"}, {"kind": "pearson", "levels": ["P3", "P5"]})


def together(student: Any, *teachers: TeacherCandidate, balance: str = "none") -> Distiller:
    spec = DistillationSpec.model_validate(
        {"losses": LOSSES, "balance": balance, "assignment": "student", "schedule": PLAIN}
    )
    first, *further = teachers
    made = make_distiller(student, first, spec, device=CPU, epochs=10, close_mosaic=0, seed=0, further=further)
    made.train()
    return made


@pytest.fixture
def teachers(published: Callable[..., Path]) -> list[TeacherCandidate]:
    """Three families, two sizes and two sets of classes."""
    return [
        TeacherCandidate(models.load(published("yolo11s")), weight=2.0),
        TeacherCandidate(models.load(published("yolo26n", names=WIDE)), weight=1.0, ratio=Fraction(2)),
        TeacherCandidate(models.load(published("yolov8n", seed=3)), weight=1.0),
    ]


@pytest.mark.parametrize("balance", ["none", "task_loss"])
def test_the_loss_of_several_teachers_is_the_weighted_mean_of_the_loss_of_each(
    balance: str, teachers: list[TeacherCandidate], batch: dict[str, Any]
):
    model = together(student_of("yolov8n"), *teachers, balance=balance)
    alone = []
    for number, (candidate, one) in enumerate(zip(teachers, model.slots, strict=True), start=1):
        single = together(student_of("yolov8n"), candidate, balance=balance)
        for key, projector in single.projectors.items():
            projector.load_state_dict(model.projectors[f"{one.prefix}{key}"].state_dict())
        assert one.prefix == ("" if number == 1 else f"teacher{number}_")
        alone.append(single(deepcopy(batch))[1])
    loss, items = model(batch)
    shares = (0.5, 0.25, 0.25)
    for label in ("kd/class_logits", "kd/box_giou", "kd/pearson", "kd_loss"):
        expected = sum(share * float(single[label]) for share, single in zip(shares, alone, strict=True))
        assert float(items[label]) == pytest.approx(expected, rel=1e-4), label
    for number, single in enumerate(alone, start=1):
        assert float(items[f"kd/box_giou@{number}"]) == pytest.approx(float(single["kd/box_giou"]), rel=1e-4)
    assert items["kd/weight"] == 1
    torch.testing.assert_close(loss[-1].detach(), items["kd_loss"] * len(batch["img"]))


def test_all_projectors_learn_and_no_teacher_does(teachers: list[TeacherCandidate], batch: dict[str, Any]):
    model = together(student_of("yolov8n"), *teachers)
    assert len(model.projectors) == 3 * 2
    model(batch)[0][-1].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.projectors.parameters())
    for one in model.slots:
        assert all(p.grad is None and not p.requires_grad for p in one.teacher.model.parameters())
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert copy.slots == ()
        assert copy.teacher is None
        assert {key.split(".")[0] for key in copy.state_dict()} == {"student_model", "projectors"}


def test_a_step_without_distillation_says_zero_under_the_same_names(
    teachers: list[TeacherCandidate], batch: dict[str, Any]
):
    model = together(student_of("yolov8n"), *teachers)
    named = set(model(batch)[1])
    assert model.objective is not None
    model.objective._factor = lambda _: 0.0
    items = model(batch)[1]
    assert set(items) == named
    assert all(value == 0 for name, value in items.items() if name.startswith("kd"))


def test_a_teacher_without_common_classes_is_refused_beside_one_that_has_them(published: Callable[..., Path]):
    stranger = TeacherCandidate(models.load(published("yolo11n", names={0: "cat", 1: "dog"})))
    with pytest.raises(TeacherMismatch, match="class names in common"):
        together(student_of("yolov8n"), TeacherCandidate(models.load(published("yolo11n"))), stranger)


@pytest.mark.parametrize("ours", ["yolov8n", "yolo26n"])
def test_head_losses_compare_the_common_classes_only_in_every_branch(
    ours: str, published: Callable[..., Path], batch: dict[str, Any]
):
    """Logits of the classes that only the teacher knows, shifted by anything, change no loss."""
    kinds = ("class_logits", "box_giou", "softmax_kl", *(() if ours == "yolo26n" else ("dfl",)))
    network = models.load(published("yolo26n" if ours == "yolo26n" else "yolo11n", names=WIDE))
    model = join(student_of(ours), network, *({"kind": kind} for kind in (*kinds, "score_weighted_l2")))
    before = {name: float(value) for name, value in model(deepcopy(batch))[1].items() if name.startswith("kd/")}
    assert model.teacher is not None
    head = model.teacher.model.model[-1]
    classes = {label.strip().lower(): index for index, label in WIDE.items()}
    with torch.no_grad():
        for branch in (head.cv3, getattr(head, "one2one_cv3", None) or []):
            for level in branch:
                level[-1].bias[[classes["cat"], classes["dog"]]] += 5.0
    after = model(deepcopy(batch))[1]
    for name, value in before.items():
        assert float(after[name]) == pytest.approx(value, rel=1e-5), name
    with torch.no_grad():
        for level in head.cv3:
            level[-1].bias[[classes["red"], classes["blue"], classes["green"]]] += torch.tensor([1.0, 2.0, 3.0])
    changed = model(deepcopy(batch))[1]
    for name, value in before.items():
        assert name == "kd/weight" or float(changed[name]) != pytest.approx(value, rel=1e-5), name


def test_without_common_classes_confidence_counts_all_the_teachers_classes(
    published: Callable[..., Path], batch: dict[str, Any]
):
    network = models.load(published("yolo11n", names={0: "cat", 1: "dog"}))
    model = join(student_of("yolov8n"), network, {"kind": "score_weighted_l2"})
    assert model.teacher is not None
    expected = Teacher(network, device=CPU)(batch["img"]).confidence
    torch.testing.assert_close(model.teacher(batch["img"]).confidence[Level.P3], expected[Level.P3])
