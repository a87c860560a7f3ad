"""Unlabelled images in the same run: distillation sees them, the task loss and the random streams do not."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from core.training.pictures import Notebook, draw
from core.training.test_training_distillation import join, student_of
from retort.constants import Role
from retort.data import unlabelled
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import models
from retort.training.config import TeacherConfig, TrainConfig, UnlabelledConfig
from retort.training.data.unlabelled import UnlabelledImages, isolated
from retort.training.trainer import TrainingLoop

TRAINING = TrainingSpec(
    imgsz=64, batch=8, nominal_batch=8, close_mosaic=1, checkpoint_every=2, optimizer="SGD", lr=0.001
)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures, laid out as intake does it."""
    folder = tmp_path_factory.mktemp("more")
    draw(folder / "given", num_train=10, num_val=1, seed=5)
    found = unlabelled.locate_unlabelled(str(folder / "given/images/train"), (folder,))
    return unlabelled.overlay_unlabelled(found, folder / "laid")


@pytest.fixture(scope="module")
def plan(data_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=2, training=TRAINING,
        folder=tmp_path_factory.mktemp("runs"), device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize("ours", ["yolov8n", "yolo26n"])
def test_the_task_loss_sees_labelled_images_only_and_distillation_all(
    ours: str, published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    more = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    model = join(student_of(ours), models.load(published("yolo11n")), {"kind": "class_logits"}, {"kind": "pearson"})
    model.student_model.eval()  # else statistics of the batch norms see the unlabelled images, as is documented
    model.student_model.model[-1].training = True
    loss, items = model({**deepcopy(batch), "unlabelled": more})
    alone, without = model(deepcopy(batch))
    torch.testing.assert_close(loss[:-1], alone[:-1], rtol=1e-4, atol=1e-5)
    for name in ("box_loss", "cls_loss"):
        torch.testing.assert_close(items[name], without[name], rtol=1e-4, atol=1e-5)
    assert items["kd_loss"] != without["kd_loss"]
    torch.testing.assert_close(loss[-1].detach(), items["kd_loss"] * len(batch["img"]))


def test_distillation_reaches_the_student_through_the_unlabelled_images(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    more = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    model = join(student_of("yolov8n"), models.load(published("yolo11n")), {"kind": "class_logits"})
    model.student_model.eval()
    model.student_model.model[-1].training = True
    loss, _ = model({**deepcopy(batch), "unlabelled": more})
    loss[:-1].sum().backward(retain_graph=True)
    assert more.grad is None or more.grad.abs().sum() == 0
    loss[-1].backward()
    assert more.grad is not None
    assert all(image.abs().sum() > 0 for image in more.grad)


def test_while_nothing_is_distilled_unlabelled_images_are_skipped(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    model = join(student_of("yolov8n"), models.load(published("yolo11n")), {"kind": "pearson"})
    assert model.objective is not None
    model.objective._factor = lambda _: 0.0
    refused = torch.full((1, 3, 7, 7), float("nan"))  # would not pass through the network
    assert torch.isfinite(model({**batch, "unlabelled": refused})[0]).all()


class Recording(TrainingLoop):
    """Keeps what each step was shown."""

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        found = super().preprocess_batch(batch)
        self.shown: list[dict[str, Any]] = [*getattr(self, "shown", []), found]
        return found


def record(plan: TrainConfig, name: str, teacher: Path | None, teaching: TeacherConfig) -> tuple[Recording, Notebook]:
    notebook = Notebook()
    spec = DistillationSpec() if teacher is not None else None
    made = Recording(
        replace(plan, folder=plan.folder / name, teaching=teaching), notebook, teacher=teacher, distillation=spec
    )
    made.train()
    made.close()
    return made, notebook


@pytest.mark.train
def test_student_and_control_see_the_same_labelled_batches_in_the_same_order(
    plan: TrainConfig, more: Path, published: Callable[..., Path]
) -> None:
    teaching = TeacherConfig(unlabelled=UnlabelledConfig(more, ratio=0.5))
    student, notebook = record(plan, "student", published("yolo11n"), teaching)
    control, _ = record(replace(plan, role=Role.CONTROL), "control", None, TeacherConfig())
    assert len(student.shown) == len(control.shown) == 4
    for ours, theirs in zip(student.shown, control.shown, strict=True):
        assert torch.equal(ours["img"], theirs["img"])
        assert ours["im_file"] == theirs["im_file"]
        assert torch.equal(ours["bboxes"], theirs["bboxes"])
    # The first step's weight is 0.
    assert ["unlabelled" in step for step in student.shown] == [False, True, True, True]
    extra = student.shown[1]["unlabelled"]
    assert extra.shape == (4, 3, 64, 64)
    assert 0 <= extra.min() < extra.max() <= 1
    assert (notebook.metrics[1]["train/kd_loss"] or 0) > 0
    assert not any("unlabelled" in step for step in control.shown)


class Numbered:
    """A data set of ten images that are their number, and one draw from each random stream."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        drawn = [random.random(), float(np.random.random()), float(torch.rand(()))]  # noqa: NPY002 - upstream's streams
        return {"img": torch.tensor([index, *drawn], dtype=torch.float64)}


def numbered(**options: Any) -> UnlabelledImages:
    args = type("Args", (), {"close_mosaic": 0, "epochs": 9})()
    return UnlabelledImages(Numbered(), args=args, **{"per_step": 4, "num_steps": 5, "seed": 3, **options})


def test_what_a_step_sees_follows_from_seed_epoch_and_step_alone() -> None:
    once = numbered()
    epochs = [torch.cat([once.next(epoch) for _ in range(5)]) for epoch in (0, 1)]
    again = numbered()
    assert torch.equal(torch.cat([again.next(1) for _ in range(5)]), epochs[1])
    for epoch in epochs:  # two passes through ten images each
        assert sorted(epoch[:10, 0].tolist()) == sorted(epoch[10:, 0].tolist()) == list(range(10))
        assert len(epoch[:, 1].unique()) == 20
    assert not torch.equal(epochs[0][:, 0], epochs[1][:, 0])
    assert not torch.equal(numbered(seed=4).next(0), numbered().next(0))


def test_an_epoch_that_is_done_again_has_images_too() -> None:
    images = numbered()
    first = [images.next(0) for _ in range(5)]
    assert torch.equal(images.next(0), first[0])


def test_ranks_share_each_pass_between_them() -> None:
    both = [numbered(rank=rank, world_size=2) for rank in (0, 1)]
    seen = torch.cat([images.next(0) for _ in range(5) for images in both])[:, 0]
    assert [sorted(part.tolist()) for part in seen.split(10)] == [list(range(10))] * 4


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # more than cores, on one core
def test_processes_work_on_over_the_end_of_an_epoch_and_show_what_they_would_from_its_start() -> None:
    def processes() -> set[int]:
        return {one.pid or 0 for one in multiprocessing.active_children()}

    before, images = processes(), numbered(num_workers=2)
    first = [images.next(0) for _ in range(5)]
    started = processes() - before
    assert len(started) == 2
    following = [images.next(1) for _ in range(5)]
    assert processes() - before == started
    assert [one.tolist() for one in first + following] == [
        numbered_step.tolist() for epoch in (0, 1) for numbered_step in steps(epoch)
    ]
    later = [images.next(4) for _ in range(2)]  # the epochs between were not asked for
    assert all(torch.equal(one, other) for one, other in zip(later, steps(4), strict=False))


def steps(epoch: int) -> list[torch.Tensor]:
    images = numbered()
    return [images.next(epoch) for _ in range(5)]


def test_an_epoch_that_was_left_before_its_end_leaves_nothing_over_for_the_next() -> None:
    images = numbered()
    images.next(0)
    assert torch.equal(images.next(1), steps(1)[0])


def test_the_mosaic_is_closed_in_time_for_its_epoch() -> None:
    class Closing(Numbered):
        closed_at: ClassVar[list[int]] = []

        def close_mosaic(self, hyp: Any) -> None:
            self.closed_at.append(hyp.epochs)

    args = SimpleNamespace(close_mosaic=2, epochs=4)
    dataset = Closing()
    images = UnlabelledImages(dataset, per_step=4, num_steps=5, seed=3, args=args)
    closed = []
    for epoch in range(4):
        shown = [images.next(epoch) for _ in range(5)]
        closed.append(len(dataset.closed_at))
        assert all(torch.equal(one, other) for one, other in zip(shown, steps(epoch), strict=True))
    assert closed == [0, 0, 1, 1]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # more than cores, on one core
def test_workers_draw_what_the_process_itself_would() -> None:
    alone, helped = numbered(), numbered(num_workers=2)
    assert all(torch.equal(alone.next(0), helped.next(0)) for _ in range(5))


def test_the_global_random_streams_are_left_as_they_were() -> None:
    def state() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = state()
    numbered().next(0)
    with isolated(1), isolated(2):
        torch.rand(3)
    assert state() == before
