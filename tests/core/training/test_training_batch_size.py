"""A batch is found by what steps of the largest arm take of a device's memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from core.training.pictures import NAMES
from retort.constants import Role
from retort.errors import OutOfMemory
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import models
from retort.training.batch_size import Arm, Meter, find, on_cpu
from retort.training.config import TeacherConfig, TrainConfig, UnlabelledConfig
from retort.training.distillation.distiller import TeacherCandidate

GIB = 2**30


def line(fixed: float, each: float, holds: float = 1000.0) -> Meter:
    """A device of *holds* GiB, on which a step takes *fixed* and *each* for an image."""

    def measure(images: int) -> int:
        if fixed + each * images > holds:
            raise OutOfMemory(f"{images} images do not fit")
        return round((fixed + each * images) * GIB)

    return measure


@pytest.mark.parametrize(
    ("meter", "free", "options", "batch"),
    [
        (line(1, 0.25), 10, {}, 20),  # (0.6 x 10 - 1) / 0.25
        (line(1, 0.26), 10, {}, 19),  # rounded down
        (line(1, 0.25), 10, {"images": 15}, 15),
        (line(0.1, 0.0001), 1000, {}, 1024),
        (line(5, 1), 9, {}, 2),  # two images fit, though they take more than their share
        (line(5, 1, holds=8), 9, {}, 2),  # neither eight nor four fit
        (line(1, 0.5, holds=4), 5, {}, 4),  # eight do not fit: four are measured
        (line(1, 0.0), 10, {}, 8),  # no slope: no further than what has fitted
        (line(1, 0.25), 10, {"gpus": 4}, 80),
        (line(1, 0.25), 10, {"gpus": 4, "images": 30}, 28),
    ],
)
def test_a_batch_takes_its_share_of_what_is_free_and_no_more_than_there_is_use_for(
    meter: Meter, free: float, options: dict[str, int], batch: int
):
    found = find(meter, round(free * GIB), **{"images": 10_000, **options})
    assert found.batch == batch
    assert f"is {batch} here" in found.reason
    assert set(found.peak_bytes) <= {"2", "4", "8"}
    assert found.free_bytes == free * GIB


def test_a_device_on_which_two_images_do_not_fit_is_too_small():
    with pytest.raises(OutOfMemory):
        find(line(5, 1, holds=6), 6 * GIB, images=100)


@pytest.mark.parametrize(("gpus", "batch"), [(1, 16), (2, 16), (3, 15), (64, 64)])
def test_on_a_cpu_it_is_the_usual_one_in_equal_parts(gpus: int, batch: int):
    found = on_cpu(gpus)
    assert (found.batch, found.peak_bytes, found.free_bytes) == (batch, {}, None)
    assert f"{batch} on a CPU" in found.reason


@pytest.fixture
def arm(published: Callable[..., Path], tmp_path: Path) -> Arm:
    """A student under two teachers, one of which sees larger images, with images that have no labels."""
    (tmp_path / "images").mkdir()
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=tmp_path, epochs=4,
        training=TrainingSpec(imgsz=64, batch="auto", multi_scale=0.0), folder=tmp_path, device="cpu",
        teaching=TeacherConfig(unlabelled=UnlabelledConfig(tmp_path / "images", ratio=1.5)),
    )  # fmt: skip
    teacher = models.load(published("yolo11n"))
    return Arm(plan, NAMES, 3, (TeacherCandidate(teacher), TeacherCandidate(teacher, 0.5)), DistillationSpec())


def test_the_step_that_is_measured_has_all_that_the_students_step_has(arm: Arm):
    seen: list[torch.Size] = []

    def peak(run: Callable[[], None]) -> int:
        with torch.autograd.graph.saved_tensors_hooks(lambda x: seen.append(x.shape) or x, lambda x: x):
            run()
        return 1

    assert arm.meter(peak)(2) == 1
    assert torch.Size([5, 3, 64, 64]) in seen  # two labelled images and three others
    alone = len(seen)
    seen.clear()
    replace(arm, teachers=(), distillation=None).meter(peak)(2)
    assert torch.Size([2, 3, 64, 64]) in seen
    assert 0 < len(seen) < alone  # no terms


def test_what_does_not_fit_while_it_is_measured_names_the_images_of_the_step(arm: Arm):
    def full(_: Callable[[], None]) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB.")

    with pytest.raises(OutOfMemory, match="with batch 8"):
        arm.meter(full)(8)
