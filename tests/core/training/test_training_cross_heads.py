"""What passes through the teacher's head: equal to upstream's, taught by gradients, and the teacher stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES
from core.training.test_training_distillation import CPU, WIDE, join, student_of
from retort.losses.cross_kd import CrossKD
from retort.spec import DistillationSpec
from retort.training import models
from retort.training.distillation import feature_taps
from retort.training.distillation.objective import StepRng
from retort.training.distillation.teacher import Teacher, half_precision

CROSS = {"kind": "cross_kd"}


@pytest.mark.parametrize("model", ["yolov8n", "yolo11n", "yolo26n"])
def test_the_split_head_says_exactly_what_upstreams_says(model: str, batch: dict[str, Any]) -> None:
    whole, cut = student_of(model), student_of(model)
    expected = whole(batch["img"])  # in training mode: statistics of batch normalisation move too
    _, found = feature_taps.forward(cut, batch["img"], intermediate=True)

    for name, branch in found.items():
        theirs = expected[name] if "one2one" in found else expected
        assert torch.equal(branch["scores"], theirs["scores"])
        assert torch.equal(branch["boxes"], theirs["boxes"])
    assert all(torch.equal(value, cut.state_dict()[key]) for key, value in whole.state_dict().items())
    assert [len(found["one2many"]["middles"][output]) for output in ("boxes", "scores")] == [3, 3]


@pytest.mark.parametrize("model", ["yolov8n", "yolo11n", "yolo26n"])
def test_a_teacher_crossed_with_itself_says_what_it_says(
    model: str, published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    network = models.load(published(model))
    teacher = Teacher(network, device=CPU, intermediate=True)
    lesson = teacher(batch["img"])
    raw = lesson.branches["one2many"]

    found = feature_taps.cross_heads(feature_taps.adapters(CrossKD(), network, network), raw, raw, lesson.head)

    for output in ("boxes", "scores"):  # the alignment's small constant is all that is between them
        torch.testing.assert_close(found[output], raw[output], rtol=1e-2, atol=1e-2)


def test_each_channel_gets_the_teachers_mean_and_deviation_and_the_teacher_no_gradient() -> None:
    student, teacher = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    teacher = (teacher * 5 + 2).requires_grad_()
    found = feature_taps.align(student.requires_grad_(), teacher)

    for moment in (torch.mean, lambda x, dim: x.std(dim, correction=0)):
        torch.testing.assert_close(moment(found, (0, 2, 3)), moment(teacher, (0, 2, 3)), rtol=1e-3, atol=1e-3)
    assert torch.autograd.grad(found.square().sum(), teacher, allow_unused=True)[0] is None


def test_classes_are_compared_where_both_name_them(published: Callable[..., Path], batch: dict[str, Any]) -> None:
    model = join(student_of("yolov8n"), models.load(published("yolo11s", names=WIDE)), CROSS)
    assert model.objective is not None
    assert model.teacher is not None
    _, branches = feature_taps.forward(model.student_model, batch["img"], intermediate=True)
    lesson = model.teacher(batch["img"])

    answer = model.objective._teacher(branches, lesson)["one2many"]
    crossed, theirs = model.objective._crossed(model.projectors["0_crossed"], branches, lesson, answer)

    assert crossed.scores.shape == theirs.scores.shape == (2, 84, len(NAMES))
    raw = lesson.branches["one2many"]["scores"]
    assert torch.equal(theirs.scores, raw.transpose(1, 2)[..., [2, 4, 1]])  # red, green, blue in the teacher's order


def test_gradient_reaches_the_first_block_of_the_students_head_and_not_the_rest(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    model = join(student_of("yolov8n"), models.load(published("yolo11n")), CROSS)
    model(batch)[0][-1].backward()

    head = model.student_model.model[-1]  # type: ignore[index,union-attr]
    for level in (*head.cv2, *head.cv3):  # type: ignore[misc,union-attr]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in level[0].parameters())
        assert all(p.grad is None or p.grad.abs().sum() == 0 for p in level[1:].parameters())
    assert model.teacher is not None
    assert all(p.grad is None for p in model.teacher.model.parameters())


@pytest.mark.skipif(half_precision(CPU) is torch.float32, reason="this CPU does not compute bfloat16")
def test_a_teacher_in_half_precision_is_crossed_in_its_own_and_compared_in_float32(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    model = join(student_of("yolov8n"), models.load(published("yolo11n")), CROSS)
    exact = model(batch)[1]["kd/cross_kd"]
    assert model.teacher is not None
    model.teacher.model.bfloat16()
    model.teacher.dtype = torch.bfloat16

    for narrow in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            loss, items = model(batch)
        loss[-1].backward()
        assert items["kd/cross_kd"].dtype is torch.float32
        assert float(items["kd/cross_kd"]) == pytest.approx(float(exact), rel=0.1)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.projectors.parameters())


def test_the_masks_of_a_step_depend_on_seed_and_place_alone(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    teacher = models.load(published("yolo11n"))
    model = join(student_of("yolov8n"), teacher, {"kind": "masked_generative"})
    assert model.objective is not None
    model.student_model.eval()  # statistics stay; the masks alone may differ
    found = []
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    for epoch in (0.25, 0.5, 0.25):
        model.objective.epoch = epoch
        # The loss of networks with random weights hardly moves with the masks; its gradient does.
        found.append(torch.autograd.grad(model(batch)[0][-1], list(model.projectors.parameters())[-2])[0])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(torch.random.get_rng_state(), before)
    draws = [torch.rand(3, generator=StepRng(seed, CPU).at(1.5)).tolist() for seed in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]


def test_it_is_gone_from_copies(published: Callable[..., Path]) -> None:
    spec = DistillationSpec.model_validate({"losses": [CROSS, {"kind": "masked_generative"}]})
    model = join(student_of("yolov8n"), models.load(published("yolo11s")), **spec.model_dump(include={"losses"}))
    copy = deepcopy(model)
    assert copy.state_dict().keys() == model.state_dict().keys()
    assert copy.objective is None
    assert "0_crossed" in dict(copy.projectors.named_children())
