"""torch.compile: the same network, and a clear word where it cannot be."""

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
from retort.errors import ModelError
from retort.training.config import TrainConfig
from retort.training.device import compile_layers, explain_compile_errors
from retort.training.models import load
from retort.training.trainer import fit


def gradients(model: Any, batch: dict[str, Any]) -> list[torch.Tensor]:
    loss, _ = model(batch)
    trained = [parameter for parameter in model.student_model.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss.sum(), trained))


@pytest.mark.train
@pytest.mark.filterwarnings("ignore")  # torch's own, about its own modules
def test_a_compiled_student_learns_what_a_plain_one_learns(
    published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    teacher = load(published("yolo11n"))
    models = [join(student_of("yolov8n"), teacher, {"kind": "class_logits"}, {"kind": "pearson"}) for _ in range(2)]
    compile_layers(models[1].student_model, backend="eager")  # all but the making of kernels, which takes minutes
    expected, found = (gradients(model, batch) for model in models)

    compiled = [module for module in models[1].modules() if module._compiled_call_impl is not None]
    assert len(compiled) == 22 + 6
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert all(module._compiled_call_impl is None for module in deepcopy(models[1]).modules())
    assert models[1].student_model.state_dict().keys() == models[0].student_model.state_dict().keys()


@pytest.mark.train
def test_a_machine_without_a_compiler_says_what_to_do(
    plan: TrainConfig,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    short = replace(plan, epochs=1, training=plan.training.model_copy(update={"compile": True}))
    with pytest.raises(ModelError, match="cannot be compiled here") as raised:
        fit(short, Notebook())
    assert "training.compile: false" in str(raised.value.hint)


def test_other_failures_are_left_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="something else"), explain_compile_errors():
        raise RuntimeError("something else")
