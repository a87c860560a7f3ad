"""A whole step on a GPU: how often the host waits, and what happens where a recording has no room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import core.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from core.training.pictures import Notebook
from core.training.test_training_distillation import student_of
from gpu.places import CUDA, DEVICE, limited, waits
from gpu.test_gpu_fit import plan
from retort.spec import DistillationSpec
from retort.training import device_check, models, trainer
from retort.training.criterion import count_boxes
from retort.training.distillation.distiller import Distiller, make_distiller
from retort.training.trainer import TrainingLoop, fit

BATCH = 8 if CUDA else 2
MOST_WAITS = 8
"""Of a step: two finds of the objects, three small copies and the scaler's look for infinities are left."""
ROOM = 3 << 30
"""Bytes: a student of 96 pixels has room there, and a recording of 256 images of 640 pixels has not."""


def distiller(published: Callable[..., Path]) -> Distiller:
    made = make_distiller(
        student_of("yolov8n").to(DEVICE), models.load(published("yolo11n")), DistillationSpec(),
        device=DEVICE, epochs=10, close_mosaic=0, seed=0, half=CUDA,
    )  # fmt: skip
    assert made.objective is not None
    made.objective.epoch = 5.0
    made.train()
    for slot in made.slots:
        slot.teacher.prepare(BATCH, 64, 64)
    return made


def labels() -> dict[str, torch.Tensor]:
    """Boxes of a batch, a different number in each image."""
    images = torch.arange(BATCH).repeat_interleave(torch.arange(BATCH))
    draw = torch.Generator().manual_seed(0)
    return {
        "batch_idx": images.float(),
        "cls": torch.randint(3, (len(images), 1), generator=draw).float(),
        "bboxes": 0.2 + 0.2 * torch.rand(len(images), 4, generator=draw),
    }


@pytest.mark.plays
def test_a_whole_step_waits_eight_times_at_most(published: Callable[..., Path]) -> None:
    """Loss, backward pass, scaler and optimizer; it was 30 times in a job, 21 in Ultralytics' own distillation."""
    model = distiller(published)
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=1e-4, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=CUDA)
    counted = {
        name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value
        for name, value in count_boxes(labels()).items()
    }
    losses: list[torch.Tensor] = []

    def step() -> None:
        with torch.autocast(DEVICE.type, dtype=torch.float16, enabled=CUDA):
            loss, _ = model({**counted, "img": torch.rand(BATCH, 3, 64, 64, device=DEVICE)})
        scaler.scale(loss.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.detach())

    for _ in range(40 if CUDA else 0):  # a balance measures in each of the first steps
        step()
    where = waits(step)
    assert len(where) <= MOST_WAITS, where
    assert torch.isfinite(torch.stack(losses)).all()


@pytest.mark.train
def test_a_recording_without_room_is_told_and_the_job_goes_on(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(loop: TrainingLoop) -> None:
        for slot in loop.network.slots:
            slot.teacher.prepare(256, 640, 640)

    monkeypatch.setattr(trainer, "record_teachers", too_large)
    notes = Notebook()
    with limited(ROOM), pytest.warns(RuntimeWarning, match="it runs without"):
        done = fit(plan(data_yaml, tmp_path), notes, teacher=published("yolo11s"), distillation=DistillationSpec())
    assert done.epochs == 2
    assert any(one.startswith("warning: teacher recorded: no (") for one in notes.said)


@pytest.mark.plays
def test_a_gpu_that_is_not_there_is_refused_with_a_remedy_and_one_that_computes_is_not() -> None:
    assert device_check.why_not("63")
    assert (device_check.why_not("0") is None) == CUDA
