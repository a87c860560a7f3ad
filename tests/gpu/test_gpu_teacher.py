"""The teacher's fast path on a CUDA device: half precision, channels last, and kernels that are replayed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import core.training.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from core.training.pictures import Notebook
from core.training.test_training_distillation import student_of
from retort.constants import Level, Role
from retort.errors import OutOfMemory
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import models
from retort.training.config import TrainConfig
from retort.training.distillation import feature_taps
from retort.training.distillation.distiller import distillation_loss, make_distiller, run_teachers
from retort.training.distillation.teacher import CudaGraphReplay, Teacher
from retort.training.trainer import fit

pytestmark = [
    pytest.mark.train,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
DEVICE = torch.device("cuda:0")


def images(seed: int, number: int = 4) -> torch.Tensor:
    return torch.rand(number, 3, 96, 96, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("model", ["yolov8n", "yolo11n", "yolo12n", "yolo26n"])
def test_replayed_kernels_say_what_the_network_says(model: str, published: Callable[..., Path]) -> None:
    teacher = Teacher(models.load(published(model)), device=DEVICE, half=True)
    assert next(teacher.model.parameters()).dtype is torch.float16
    for seed in range(6):  # the first ones are not yet replayed
        expected = teacher(images(seed))
        found = teacher(images(seed), reuse_buffers=True)
        for level in (Level.P3, Level.P4, Level.P5):
            torch.testing.assert_close(found.features[level], expected.features[level], rtol=1e-2, atol=1e-2)
            torch.testing.assert_close(found.confidence[level], expected.confidence[level], rtol=0, atol=1e-2)
    assert isinstance(teacher._replay, CudaGraphReplay)
    assert len(teacher._replay._recorded) == 1


def test_a_shape_of_its_own_is_not_replayed_from_another(published: Callable[..., Path]) -> None:
    teacher = Teacher(models.load(published("yolo11n")), device=DEVICE, half=True)
    for _ in range(4):
        teacher(images(0), reuse_buffers=True)
    odd = teacher(images(1, number=3), reuse_buffers=True)
    torch.testing.assert_close(odd.features[Level.P3], teacher(images(1, number=3)).features[Level.P3])


def test_a_batch_that_does_not_fit_is_out_of_memory_with_the_numbers(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    training = TrainingSpec(imgsz=96, batch=8, close_mosaic=0)
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=1, training=training,
        folder=tmp_path, device="0",
    )  # fmt: skip
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        with pytest.raises(OutOfMemory, match=r"batch 8 at 96 pixels; .* GiB were free; .* at its peak"):
            fit(plan, Notebook(), teacher=published("yolo11s"), distillation=DistillationSpec())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_distilled_step_never_waits_for_the_device(published: Callable[..., Path]) -> None:
    student = student_of("yolov8n").to(DEVICE)
    model = make_distiller(
        student, models.load(published("yolo11n")), DistillationSpec(),
        device=DEVICE, epochs=10, close_mosaic=0, seed=0, half=True,
    )  # fmt: skip
    model.train()
    assert model.objective is not None
    model.objective.epoch = 5.0
    try:
        for step in range(8):
            with torch.autocast("cuda", dtype=torch.float16):
                seen = images(step)
                features, branches = feature_taps.forward(student, seen)
                task = torch.stack([raw["scores"].float().sigmoid().mean() for raw in branches.values()]).sum()
                if step > 4:  # anchors are made, kernels recorded and gradients measured by then
                    torch.cuda.set_sync_debug_mode("error")
                lessons = run_teachers(model.slots, seen)
                total, _ = distillation_loss(model.slots, lessons, (features, branches), task, model.projectors)
            total.backward()
            torch.cuda.set_sync_debug_mode("default")
    finally:
        torch.cuda.set_sync_debug_mode("default")
