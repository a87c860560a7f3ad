"""Specs are held to the operator's ceilings, at the door and in the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from retort.data import ceilings
from retort.errors import SpecError
from retort.settings import Settings
from retort.spec import parse_spec
from retort.training import batch_size
from retort.training.export import tensorrt


def spec_with(**changes: Any) -> Any:
    document: dict[str, Any] = {
        "name": "bounded", "data": {"path": "/data"}, "teacher": {"weights": "yolo11s.pt"},
        "student": {"model": "yolov8n", "weights": None},
    }  # fmt: skip
    return parse_spec({**document, **changes})


@pytest.mark.parametrize(
    ("changes", "setting", "most", "path"),
    [
        ({"training": {"epochs": 51}}, "max_epochs", 50, "training.epochs"),
        ({"teacher": {"train": {"model": "yolov8n", "epochs": 51}}}, "max_epochs", 50, "teacher.train.epochs"),
        ({"training": {"imgsz": 640}}, "max_imgsz", 320, "training.imgsz"),
        ({"exports": [{"format": "onnx", "imgsz": [320, 640]}]}, "max_imgsz", 320, "exports.0.imgsz.1"),
        ({"training": {"batch": 64}}, "max_batch", 32, "training.batch"),
        ({"training": {"seeds": 3}}, "max_seeds", 2, "training.seeds"),
        ({"resources": {"gpus": 4}}, "max_gpus", 2, "resources.gpus"),
        ({"resources": {"max_runtime_s": 7200.0}}, "max_runtime_s", 3600.0, "resources.max_runtime_s"),
        ({"resources": {"max_queue_s": 7200.0}}, "max_queue_s", 3600.0, "resources.max_queue_s"),
        ({"exports": [{"format": "onnx"}, {"format": "torchscript"}]}, "max_exports", 1, "exports"),
        (
            {"exports": [{"format": "engine", "precision": "int8", "calibration_images": 900}]},
            "max_calibration_images", 300, "exports.0.calibration_images",
        ),
    ],
)  # fmt: skip
def test_a_field_above_its_ceiling_is_named_with_the_ceiling_and_the_operators_setting(
    changes: dict[str, Any], setting: str, most: float, path: str, tmp_path: Path
):
    spec = spec_with(**changes)
    ceilings.check(spec, Settings(home=tmp_path))
    lowered = {"max_imgsz": 320, "max_batch": 64} if setting == "max_imgsz" else {}
    with pytest.raises(SpecError) as caught:
        ceilings.check(spec, Settings(home=tmp_path, **{**lowered, setting: most}))
    problem = next(one for one in caught.value.problems if one.path == path)
    assert f"{most:g} at most (RETORT_{setting.upper()})" in problem.message


def test_sixty_four_gpus_are_not_sixty_four_processes_on_a_cpu(tmp_path: Path):
    """``gpus: 64`` on a machine without any started 64 trainings beside each other."""
    settings = Settings(home=tmp_path, max_gpus=64, max_cpu_ranks=2)
    ceilings.check_ranks(64, "0", settings)
    ceilings.check_ranks(2, "cpu", settings)
    with pytest.raises(SpecError, match="2 processes at most"):
        ceilings.check_ranks(64, "cpu", settings)
    with pytest.raises(SpecError, match="RETORT_MAX_GPUS"):
        ceilings.check(spec_with(training={"batch": 64}, resources={"gpus": 64}), Settings(home=tmp_path))


def test_a_job_without_a_limit_of_its_own_has_the_operators(tmp_path: Path):
    settings = Settings(home=tmp_path, max_runtime_s=3600.0)
    assert [ceilings.runtime_s(wanted, settings) for wanted in (None, 60.0, 1e6)] == [3600.0, 60.0, 3600.0]
    unbounded = Settings(home=tmp_path, max_runtime_s=None)
    assert [ceilings.runtime_s(wanted, unbounded) for wanted in (None, 60.0)] == [None, 60.0]


def test_what_a_spec_leaves_to_the_run_is_bounded_as_well():
    found = batch_size.find(lambda images: images << 20, 8 << 30, images=10_000, largest=48)
    assert (found.batch, "RETORT_MAX_BATCH" in found.reason) == (48, True)
    assert batch_size.on_cpu(2, most=5).batch == 4
    assert [tensorrt.bounded(wanted, 8.0, has_gib=lambda: 24.0) for wanted in (None, 2.0)] == [8.0, 2.0]
    assert tensorrt.bounded(None, 64.0, has_gib=lambda: 24.0) is None
