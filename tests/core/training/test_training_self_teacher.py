"""The average of the student's own weights as its teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES, Notebook
from retort.constants import Role
from retort.errors import Stopped
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import checkpoint, models
from retort.training.config import TeacherConfig, TrainConfig
from retort.training.distillation.distiller import Distiller, TeacherCandidate, make_distiller
from retort.training.distillation.self_teacher import named
from retort.training.distributed.rank import RankConfig
from retort.training.trainer import fit
from retort.training.ultralytics_api import get_cfg

TRAINING = TrainingSpec(imgsz=64, batch=8, nominal_batch=8, close_mosaic=0, optimizer="SGD", warmup_epochs=0, lr=0.05)
SPEC = DistillationSpec.model_validate({"schedule": {"warmup_epochs": 0}})
CROSSED = DistillationSpec.model_validate(
    {
        "losses": [{"kind": "cross_kd"}, {"kind": "masked_generative"}, {"kind": "score_weighted_l2"}],
        "schedule": {"warmup_epochs": 0},
    }
)
LAID_OUT = {"names": NAMES, "digest": "0", "train": [], "val": []}


@pytest.fixture
def plan(data_yaml: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        role=Role.CONTROL, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=2, training=TRAINING,
        folder=tmp_path, device="cpu", watched=False, teaching=TeacherConfig(ema=True),
    )  # fmt: skip


def student_of(seed: int) -> Any:
    network = models.build("yolov8n", names=NAMES, weights=None, seed=seed)
    network.args = get_cfg()
    return network


def joined(student: Any, spec: DistillationSpec = SPEC, known: tuple[str, ...] | None = None) -> Distiller:
    own = TeacherCandidate(named(student, known), own=True)
    options = {"device": torch.device("cpu"), "epochs": 4, "close_mosaic": 0, "seed": 0}
    return make_distiller(student, own, spec, **options)


def test_it_is_the_average_of_each_step_and_no_gradient_reaches_it(batch: dict[str, Any]):
    student, average = student_of(0), student_of(1)
    distiller = joined(student).train()
    distiller.follow(lambda: average)
    assert distiller.teacher is not None
    before = distiller.teacher(batch["img"], reuse_buffers=True).branches["one2many"]["scores"]
    loss, items = distiller(batch)
    loss.sum().backward()

    assert float(items["kd/class_logits"]) > 0
    assert not before.requires_grad
    assert all(parameter.grad is None for parameter in average.parameters())
    assert any(parameter.grad is not None for parameter in student.parameters())
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.mul_(1.1)
    after = distiller.teacher(batch["img"], reuse_buffers=True).branches["one2many"]["scores"]
    assert not torch.equal(before, after)


def test_every_kind_of_term_can_be_taught_by_it(batch: dict[str, Any]):
    student, average = student_of(0), student_of(1).requires_grad_(requires_grad=False)
    distiller = joined(student, CROSSED).train()
    distiller.follow(lambda: average)
    loss, items = distiller(batch)
    loss.sum().backward()

    assert [name for name in items if name.startswith("kd/") and float(items[name]) <= 0] == []
    assert all(parameter.grad is None for parameter in average.parameters())


def test_it_knows_the_classes_that_the_teacher_knows_and_assigns_as_that_one_does():
    student = student_of(0)
    whole, partly = joined(student).objective, joined(student, known=(NAMES[1],)).objective

    assert whole is not None
    assert partly is not None
    assert (whole.classes.size, whole.assigns) == (3, True)
    assert (partly.classes.size, partly.assigns) == (1, False)
    assert student.names == NAMES


def weights(plan: TrainConfig, notebook: Notebook | None = None) -> dict[str, torch.Tensor]:
    fitted = fit(plan, notebook or Notebook(), distillation=SPEC)
    assert fitted.last is not None
    found: dict[str, torch.Tensor] = models.load(fitted.last).state_dict()
    return found


@pytest.mark.train
def test_a_training_under_it_differs_from_a_plain_one_and_resumes_bit_for_bit(plan: TrainConfig):
    whole = weights(replace(plan, folder=plan.folder / "whole"))
    parted = replace(plan, folder=plan.folder / "parted")
    with pytest.raises(Stopped):
        weights(parted, Notebook(stop_after=3))  # of two batches an epoch
    resumed = weights(parted)
    plain = fit(replace(plan, folder=plan.folder / "plain", teaching=TeacherConfig()), Notebook())

    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert plain.last is not None
    alone = models.load(plain.last).state_dict()
    assert not all(torch.equal(whole[name], alone[name]) for name in whole)


def test_it_teaches_on_images_without_labels(batch: dict[str, Any]):
    distiller = joined(student_of(0)).train()
    distiller.follow(lambda: student_of(1))
    more = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss, _ = distiller({**batch, "unlabelled": more})
    loss.sum().backward()

    assert more.grad is not None
    assert all(image.abs().sum() > 0 for image in more.grad)


def test_a_training_under_it_is_another_and_is_read_by_ranks_as_written(plan: TrainConfig, tmp_path: Path):
    known = replace(plan, teaching=TeacherConfig(ema=True, ema_classes=("red",)))
    plans = [replace(plan, teaching=TeacherConfig()), plan, known]
    identities = [checkpoint.identity_of(one, SPEC, [], LAID_OUT)["plan"] for one in plans]
    order = RankConfig(known, None, SPEC)
    order.write(tmp_path / "order.json")

    assert len(set(identities)) == 3
    assert RankConfig.read(tmp_path / "order.json") == order


@pytest.mark.train
@pytest.mark.parametrize("given", [{"teacher": Path("teacher.pt"), "distillation": SPEC}, {}])
def test_another_teacher_beside_it_or_nothing_to_learn_is_a_mistake_of_ours(plan: TrainConfig, given: dict[str, Any]):
    with pytest.raises(AssertionError, match="come together"):
        fit(plan, Notebook(), **given)
