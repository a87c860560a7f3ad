"""What did not fit is told with the numbers by which to choose what does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import Notebook
from retort.constants import Role
from retort.errors import OutOfMemory
from retort.spec import TrainingSpec
from retort.training.config import TrainConfig
from retort.training.device import DeviceMemory, explain_out_of_memory, out_of_memory_error
from retort.training.trainer import TrainingLoop

TOLD = (
    "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 7.79 GiB of which 1.25 GiB is free."
)


@pytest.fixture
def plan(tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=tmp_path, epochs=1,
        training=TrainingSpec(batch=32, imgsz=640), folder=tmp_path, device="cpu",
    )  # fmt: skip


def test_the_numbers_are_those_of_the_job_of_torch_and_of_the_device(plan: TrainConfig):
    error = out_of_memory_error(plan, TOLD, DeviceMemory(free=5 << 28, total=8 << 30, peak=6 << 30))
    assert error.message == (
        "yolov8n does not fit with batch 32 at 640 pixels; 1.50 GiB more were asked for; 1.25 of 8.00 GiB were free; "
        "the training has held 6.00 GiB at its peak"
    )
    assert error.code == "out_of_memory"
    assert "below 32" in str(error.hint)
    assert "halve_batch" in str(error.hint)


@pytest.mark.train
def test_no_batch_is_halved_behind_the_back_of_the_control(plan: TrainConfig, data_yaml: Path, tmp_path: Path):
    tried: list[int] = []

    class Starved(TrainingLoop):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            tried.append(len(batch["img"]))
            raise torch.OutOfMemoryError(TOLD)

    made = Starved(
        replace(plan, data_yaml=data_yaml, folder=tmp_path / "run", training=TrainingSpec(batch=8, imgsz=64)),
        Notebook(), teacher=None, distillation=None,
    )  # fmt: skip
    try:
        with pytest.raises(torch.OutOfMemoryError):
            made.train()
    finally:
        made.close()
    assert tried == [8]


@pytest.mark.parametrize(
    "thrown",
    [
        torch.OutOfMemoryError(TOLD), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"),
        RuntimeError("Unable to find an engine to execute this computation"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)  # fmt: skip
def test_what_torch_throws_is_turned_into_it(thrown: RuntimeError, plan: TrainConfig):
    with pytest.raises(OutOfMemory, match="batch 32 at 640 pixels"), explain_out_of_memory(plan):
        raise thrown


def test_other_errors_pass(plan: TrainConfig):
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory(plan):
        raise RuntimeError("shapes do not fit")
