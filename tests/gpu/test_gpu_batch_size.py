"""A batch that is found on a CUDA device trains there, and leaves the rest of its memory to others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import core.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from core.training.pictures import NAMES
from gpu.places import limited
from retort.constants import Role
from retort.errors import OutOfMemory
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import batch_size, models
from retort.training.config import TrainConfig
from retort.training.distillation.distiller import TeacherCandidate

pytestmark = pytest.mark.train
SMALL = 6 << 30
"""Bytes that are taken for free, so that the batch stays small on any device."""


def arm_of(published: Callable[..., Path], folder: Path) -> batch_size.Arm:
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=folder, epochs=2,
        training=TrainingSpec(imgsz=320, batch="auto"), folder=folder, device="0",
    )  # fmt: skip
    teacher = TeacherCandidate(models.load(published("yolo11s")))
    return batch_size.Arm(plan, NAMES, 8, (teacher,), DistillationSpec())


def test_a_step_of_the_found_batch_takes_about_the_share_that_was_asked_for_and_fits(
    published: Callable[..., Path], tmp_path: Path
) -> None:
    meter = arm_of(published, tmp_path).meter(batch_size.peak_memory("0"))
    if batch_size.free_memory("0") < SMALL:
        pytest.skip("the device is full")

    with limited(SMALL):
        found = batch_size.find(meter, SMALL, images=10_000)
        taken = meter(found.batch)

    assert found.batch > 8
    assert 0.4 * SMALL < taken < 0.8 * SMALL


def test_a_step_takes_about_what_was_estimated_without_the_gpu(published: Callable[..., Path], tmp_path: Path) -> None:
    """The libraries' own memory is in what is measured, and not in the estimate."""
    arm = arm_of(published, tmp_path)
    arm.meter(batch_size.peak_memory("0"))(64)
    assert arm.estimate(64) == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.25)


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(
    published: Callable[..., Path], tmp_path: Path
) -> None:
    arm = arm_of(published, tmp_path)
    measure = arm.meter(batch_size.peak_memory("0"))
    if batch_size.free_memory("0") < SMALL:
        pytest.skip("the device is full")

    with limited(SMALL), pytest.raises(OutOfMemory, match="batch 512 at 320 px does not fit") as caught:
        batch_size.foresee(512, SMALL, estimate=arm.estimate, measure=measure, imgsz=320)

    fits = re.search(r"batch (\d+) should fit", caught.value.hint or "")
    assert fits is not None
    with limited(SMALL):
        assert measure(int(fits[1])) < SMALL
