"""A batch that is found on a CUDA device trains there, and leaves the rest of its memory to others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import core.training.conftest  # noqa: F401  # prepares the environment
import pytest
from core.training.pictures import NAMES
from gpu.places import limited
from retort.constants import Role
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import batch_size, models
from retort.training.config import TrainConfig
from retort.training.distillation.distiller import TeacherCandidate

pytestmark = pytest.mark.train
SMALL = 6 << 30
"""Bytes that are taken for free, so that the batch stays small on any device."""


def test_a_step_of_the_found_batch_takes_about_the_share_that_was_asked_for_and_fits(
    published: Callable[..., Path], tmp_path: Path
) -> None:
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=tmp_path, epochs=2,
        training=TrainingSpec(imgsz=320, batch="auto"), folder=tmp_path, device="0",
    )  # fmt: skip
    teacher = TeacherCandidate(models.load(published("yolo11s")))
    peak = batch_size.peak_memory("0")
    meter = batch_size.Arm(plan, NAMES, 8, (teacher,), DistillationSpec()).meter(peak)
    if batch_size.free_memory("0") < SMALL:
        pytest.skip("the device is full")

    with limited(SMALL):
        found = batch_size.find(meter, SMALL, images=10_000)
        taken = meter(found.batch)

    assert found.batch > 8
    assert 0.4 * SMALL < taken < 0.8 * SMALL
