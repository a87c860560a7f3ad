"""torch.compile: the same network, each layer compiled, and a clear word where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import Notebook
from core.training.test_training_distillation import join, student_of
from core.training.test_training_fit import plan  # noqa: F401  # the fixture
from retort.training.compiling import CompiledLayers
from retort.training.config import TrainConfig
from retort.training.models import load
from retort.training.trainer import fit


def gradients(model: Any, batch: dict[str, Any]) -> list[torch.Tensor]:
    loss, _ = model(batch)
    trained = [parameter for parameter in model.student_model.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss.sum(), trained))


@pytest.mark.train
@pytest.mark.filterwarnings("ignore")  # torch's own, about its own modules
def test_a_compiled_student_learns_what_a_plain_one_learns_and_every_layer_runs_compiled(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    """All layers of a class share their code, and its 8 versions were used up: 6 of 28 layers ran compiled."""
    teacher = load(published("yolo11n"))
    students = [student_of("yolov8n") for _ in range(2)]
    layers = CompiledLayers(students[1], backend="eager")  # all but the making of kernels, which takes minutes
    models = [join(student, teacher, {"kind": "class_logits"}, {"kind": "pearson"}) for student in students]
    assert layers.compiled == 0, "nothing is compiled for a look at the student's widths"
    expected, found = (gradients(model, batch) for model in models)

    assert layers.told == "student compiled: 28 of 28 layers"
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert all(module._compiled_call_impl is None for module in deepcopy(models[1]).modules())
    assert models[1].student_model.state_dict().keys() == models[0].student_model.state_dict().keys()


@pytest.mark.train
@pytest.mark.filterwarnings("ignore")  # torch's own, about what it could not compile
def test_a_machine_without_a_compiler_trains_without_and_says_so(
    plan: TrainConfig,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    short = replace(plan, epochs=1, training=plan.training.model_copy(update={"compile": True}))
    notes = Notebook()
    assert fit(short, notes).epochs == 1
    (told,) = [line for line in notes.said if "student compiled" in line]
    assert told.startswith("warning: student compiled: 0 of 28 layers: ")
