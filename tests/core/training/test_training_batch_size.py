"""A batch is found by what steps of the largest arm take of a device's memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from core.training.pictures import NAMES
from retort.constants import Role
from retort.errors import OutOfMemory
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import models
from retort.training.batch_size import Arm, Meter, find, foresee, on_cpu
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


# A batch that the spec sets is compared with the GPU's memory before anything trains


def never(_: int) -> int:
    raise AssertionError("a step was tried on the GPU without need")


def test_what_clearly_fits_is_not_tried_on_the_gpu():
    found = foresee(64, 16 * GIB, estimate=line(1, 0.1), measure=never, imgsz=640)
    assert (found.step_bytes, found.measured, found.is_tight) == (round(7.4 * GIB), False, False)
    assert found.sentence(64) == "a step with batch 64 will take about 7.4 GiB of the 16.0 that are free on the GPU"


def test_what_may_not_fit_is_tried_and_refused_by_no_estimate_alone():
    found = foresee(64, 16 * GIB, estimate=line(1, 0.5), measure=line(1, 0.22), imgsz=640)
    assert (found.step_bytes, found.measured, found.is_tight) == (round(15.08 * GIB), True, True)


@pytest.mark.parametrize(
    ("each", "gpus", "needed", "hint"),
    [
        (0.46875, 1, "31.0", "batch 24 should fit, or batch: auto"),
        (0.46875, 2, "16.0", "batch 48 should fit, or batch: auto"),
        (8.0, 1, "513.0", "no batch fits: smaller images or networks"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_before_anything_trains_with_one_that_does(
    each: float, gpus: int, needed: str, hint: str
):
    """It was found out by the first step, after the data had been read."""
    free = 15.6
    with pytest.raises(OutOfMemory) as caught:
        foresee(
            64, round(free * GIB), estimate=line(1, each), measure=line(1, each, holds=free), imgsz=640, gpus=gpus
        )  # fmt: skip
    assert caught.value.message == (
        f"batch 64 at 640 px does not fit: a step needs about {needed} GiB of each GPU, of which 15.6 are free"
    )
    assert (caught.value.hint or "").startswith(hint)


def test_a_step_is_estimated_near_what_one_took_on_a_gpu(tmp_path: Path):
    """Recorded on one H200: the control of the loop, yolov8n at 640 px with batch 64."""
    recorded = json.loads((Path(__file__).parents[3] / "benchmarks" / "results" / "gpu-h200.json").read_text())
    training = TrainingSpec(imgsz=640, batch=64, multi_scale=0.0)
    plan = TrainConfig(
        role=Role.CONTROL, model="yolov8n", weights=None, data_yaml=tmp_path, epochs=4, training=training,
        folder=tmp_path, device="cpu",
    )  # fmt: skip
    estimated = Arm(plan, dict(enumerate(map(str, range(80)))), 7).estimate(64) / GIB
    assert estimated == pytest.approx(recorded["loop"]["control"]["peak_gib"], rel=0.1)


def test_a_distilled_step_is_estimated_with_its_teachers_and_leaves_them_as_they_were(arm: Arm):
    before = {name: one.clone() for name, one in arm.teachers[0].network.state_dict().items()}
    alone = replace(arm, teachers=(), distillation=None).estimate(8)
    first, second = arm.teachers
    distilled = replace(arm, teachers=(first, replace(second, ratio=Fraction(2)))).estimate(8)
    assert distilled > 1.4 * alone
    assert all(torch.equal(one, before[name]) for name, one in arm.teachers[0].network.state_dict().items())
