"""Training on a CUDA device, in mixed precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import core.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from core.training.pictures import Notebook
from retort.constants import Role
from retort.spec import DistillationSpec, TrainingSpec
from retort.training.config import TrainConfig
from retort.training.evaluate import Conditions, Published, evaluate, speeds
from retort.training.trainer import TrainingLoop, fit

pytestmark = pytest.mark.train


def plan(data_yaml: Path, folder: Path) -> TrainConfig:
    training = TrainingSpec(imgsz=96, batch=8, close_mosaic=0, checkpoint_every=1, amp=True)
    return TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=2, training=training,
        folder=folder, device="0",
    )  # fmt: skip


def test_two_epochs_in_mixed_precision_stay_finite(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    notebook = Notebook()
    spec = DistillationSpec.model_validate(
        {"losses": [{"kind": kind} for kind in ("class_logits", "box_giou", "dfl", "pearson", "score_weighted_l2")]}
    )
    fitted = fit(plan(data_yaml, tmp_path), notebook, teacher=published("yolo11s"), distillation=spec)
    assert sorted(notebook.metrics) == [0, 1, 2]
    assert "info: teacher recorded: yes" in notebook.said
    for values in notebook.metrics.values():
        assert all(value is not None and math.isfinite(value) for value in values.values())
    assert (notebook.metrics[2]["train/kd/class_logits"] or 0) > 0
    measured = evaluate(fitted.weights, Conditions(data_yaml, imgsz=96, device="0"))
    assert measured.accuracy is not None
    speed = speeds({"student": Published(fitted.weights, 96)}, "0", on_round=lambda: None)["student"]
    assert speed.latency_ms["p50"] > 0
    assert speed.peak_memory_bytes


def test_the_teacher_is_asked_in_half_precision(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    made = TrainingLoop(
        plan(data_yaml, tmp_path), Notebook(), teacher=published("yolo11n"), distillation=DistillationSpec()
    )
    made._setup_train()
    assert made.amp
    assert made.scaler.is_enabled()
    assert {p.dtype for p in made.model.teacher.model.parameters()} == {torch.float16}
    assert {p.dtype for p in made.model.parameters()} == {torch.float32}
    made.close()


def test_a_compiled_student_is_distilled_in_mixed_precision(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    notebook, wanted = Notebook(), plan(data_yaml, tmp_path)
    compiled = replace(wanted, training=wanted.training.model_copy(update={"compile": True}))
    fit(compiled, notebook, teacher=published("yolo11s"), distillation=DistillationSpec())
    assert sorted(notebook.metrics) == [0, 1, 2]
    assert all(value is not None and math.isfinite(value) for value in notebook.metrics[2].values())
    assert "info: student compiled: 28 of 28 layers" in notebook.said
