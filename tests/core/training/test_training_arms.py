"""Each further arm differs from the control in one thing alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES, Notebook
from retort.constants import Role
from retort.losses.base import class_weights
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import arms, checkpoint, models
from retort.training.config import Loading, TrainConfig
from retort.training.distributed.rank import RankConfig
from retort.training.trainer import TrainingLoop, fit

# Momentum would hide what one step has done; 16 images in batches of 8 are two steps.
TRAINING = TrainingSpec(imgsz=64, batch=8, nominal_batch=8, close_mosaic=0, optimizer="SGD", warmup_epochs=0, lr=0.05)

LAID_OUT = {"names": NAMES, "digest": "0", "train": [], "val": []}


@pytest.fixture
def control(data_yaml: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        role=Role.CONTROL, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=1, training=TRAINING,
        folder=tmp_path, device="cpu", watched=False,
    )  # fmt: skip


def weights(plan: TrainConfig, name: str, **teaching: Any) -> dict[str, torch.Tensor]:
    fitted = fit(replace(plan, folder=plan.folder / name), Notebook(), **teaching)
    assert fitted.last is not None
    found: dict[str, torch.Tensor] = models.load(fitted.last).state_dict()
    return found


def equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.train
def test_an_arm_without_its_one_difference_is_the_control_bit_for_bit(
    control: TrainConfig, published: Callable[..., Path]
):
    plain = weights(control, "control")

    assert equal(plain, weights(replace(control, class_balance=0.0), "without-class-weights"))
    alone, teacher = replace(control, terms=False), published("yolo11n")
    own = DistillationSpec(assignment="student")
    assert equal(plain, weights(alone, "assigned-by-the-student", teacher=teacher, distillation=own))

    assert not equal(plain, weights(replace(control, class_balance=1.0), "class-weights"))
    theirs = DistillationSpec.model_validate({"schedule": {"warmup_epochs": 0}})
    assert not equal(plain, weights(alone, "assigned-by-the-teacher", teacher=teacher, distillation=theirs))


def test_the_ranks_of_a_parallel_training_read_an_arm_as_it_was_written(control: TrainConfig, tmp_path: Path):
    for plan in (replace(control, terms=False), replace(control, class_balance=1.0)):
        order = RankConfig(plan, tmp_path / "teacher.pt", DistillationSpec())
        order.write(tmp_path / "order.json")
        assert RankConfig.read(tmp_path / "order.json") == order
        assert checkpoint.identity_of(plan, None, [], LAID_OUT) != checkpoint.identity_of(control, None, [], LAID_OUT)


def test_classes_weigh_in_the_arm_as_the_recipe_weighs_those_that_its_teacher_is_sure_of(control: TrainConfig):
    loop = TrainingLoop(replace(control, class_balance=1.0), Notebook(), teacher=None, distillation=None)
    loop.setup_model()
    loop.loading = Loading(0)
    loop.train_loader = loop.get_dataloader(loop.data["train"], 8, -1, "train")
    counts = torch.as_tensor(loop.get_class_counts())
    loop.set_class_weights()

    found = loop.student.class_weights
    assert torch.allclose(found, class_weights(counts * arms.ANCHORS * 8 / 16, 1.0))
    assert found[counts.argmin()] > found[counts.argmax()]
    assert float((found * counts).sum() / counts.sum()) == pytest.approx(1, abs=0.05)


def test_a_placebo_is_the_student_as_it_starts_and_knows_the_classes_of_the_teacher(
    control: TrainConfig, published: Callable[..., Path], tmp_path: Path
):
    start = published("yolov8n")
    teacher = published("yolo11n", names={0: NAMES[1]})

    arms.write_placebo(replace(control, weights=start), NAMES, teacher, tmp_path / "given.pt")
    given = models.load(tmp_path / "given.pt")
    assert equal(given.state_dict(), models.load(start).state_dict())
    assert [name for name in given.names.values() if name in NAMES.values()] == [NAMES[1]]

    arms.write_placebo(control, NAMES, teacher, tmp_path / "random.pt")
    own = models.build_start(control, NAMES).state_dict()
    assert not torch.equal(models.load(tmp_path / "random.pt").state_dict()["model.0.conv.weight"].half(),
                           own["model.0.conv.weight"].half())  # fmt: skip


def test_an_arm_knows_who_assigns_the_labels_of_the_student(control: TrainConfig, published: Callable[..., Path]):
    knows, partly = published("yolo11n"), published("yolo11n", names={0: NAMES[1]})

    assert arms.assigns(control, NAMES, knows, DistillationSpec())
    assert not arms.assigns(control, NAMES, partly, DistillationSpec())
    assert not arms.assigns(control, NAMES, knows, DistillationSpec(assignment="student"))


@pytest.mark.train
@pytest.mark.parametrize("agreement", ["none", "project"])
def test_terms_without_weight_leave_the_control_as_it_is_bit_for_bit(
    control: TrainConfig, published: Callable[..., Path], agreement: str
):
    """The projectors' gradient counted in the norm that is clipped, and made the student's steps shorter."""
    asked = {"agreement": agreement, "assignment": "student", "schedule": {"warmup_epochs": 0}}
    spec = DistillationSpec.model_validate(asked)
    silent = spec.model_copy(update={"losses": tuple(one.model_copy(update={"weight": 0.0}) for one in spec.losses)})
    tight = replace(control, training=control.training.model_copy(update={"grad_clip": 0.1}))

    plain = weights(tight, "control")
    assert equal(plain, weights(tight, "silent", teacher=published("yolo11n"), distillation=silent))
    assert not equal(plain, weights(tight, "loud", teacher=published("yolo11n"), distillation=spec))
