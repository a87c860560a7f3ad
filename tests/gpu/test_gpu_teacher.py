"""The teacher's fast path on a CUDA device: half precision, channels last, and kernels that are replayed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import core.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from core.training.pictures import Notebook
from core.training.test_training_distillation import student_of
from gpu.places import DEVICE, limited
from retort.constants import Level, Role
from retort.errors import OutOfMemory
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import models
from retort.training.config import TrainConfig
from retort.training.distillation import feature_taps
from retort.training.distillation.distiller import distillation_loss, make_distiller, run_teachers
from retort.training.distillation.teacher import CudaGraphReplay, Teacher
from retort.training.trainer import fit
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.train
TOO_LITTLE = 48 << 20
"""Bytes: the teacher's float32 weights and the student with its average take more before a step begins."""


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
    told = r"batch 8 at 96 pixels; .* GiB were free; .* at its peak"
    with limited(TOO_LITTLE), pytest.raises(OutOfMemory, match=told):
        fit(plan, Notebook(), teacher=published("yolo11s"), distillation=DistillationSpec())


@pytest.mark.timeout(90)
def test_a_recording_beside_a_loader_that_pins_memory_breaks_neither(published: Callable[..., Path]) -> None:
    """In CUDA's default mode it broke both. A training records before its loaders start, and need not rely on this."""
    data = DataLoader(TensorDataset(torch.zeros(4096, 3, 96, 96)), batch_size=64, num_workers=2, pin_memory=True)
    stop, broken, seen = threading.Event(), list[BaseException](), list[int]()

    def consume() -> None:
        try:
            while not stop.is_set():
                for (images,) in data:
                    seen.append(images.to(DEVICE, non_blocking=True).shape[0])
                    if stop.is_set():
                        return
        except BaseException as error:  # noqa: BLE001 - whatever CUDA refuses the loader is the answer
            broken.append(error)

    loading = threading.Thread(target=consume, daemon=True)
    loading.start()
    network = models.load(published("yolo11n"))
    for height in range(96, 96 + 8 * 32, 32):
        teacher = Teacher(network, device=DEVICE, half=True)
        shown = torch.rand(2, 3, height, 96, device=DEVICE)
        teacher.prepare(2, height, 96)
        found, expected = teacher(shown, reuse_buffers=True), teacher(shown)
        torch.testing.assert_close(found.features[Level.P3], expected.features[Level.P3], rtol=1e-2, atol=1e-2)
    stop.set()
    loading.join(30)
    assert not broken
    assert not loading.is_alive()
    assert seen


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
