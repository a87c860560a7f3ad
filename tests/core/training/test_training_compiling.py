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
from retort.spec import DistillationSpec
from retort.training.compiling import CompiledLayers
from retort.training.config import TrainConfig
from retort.training.distillation.teacher import CudaGraphReplay
from retort.training.models import load
from retort.training.trainer import TrainingLoop


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

    assert (layers.compiled, layers.number, layers.reason) == (28, 28, None)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert all(module._compiled_call_impl is None for module in deepcopy(models[1]).modules())
    assert models[1].student_model.state_dict().keys() == models[0].student_model.state_dict().keys()


class WithoutRoom(TrainingLoop):
    """A training whose teacher records, and finds no memory to do so."""

    def set_model_attributes(self) -> None:
        super().set_model_attributes()
        for slot in self.network.slots:
            slot.teacher._replay = CudaGraphReplay(slot.teacher._brief, _out_of_memory)


def _out_of_memory(*_: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.12 GiB.\nGPU 0 has ...")


@pytest.mark.train
@pytest.mark.filterwarnings("ignore")  # torch's own, about what it could not compile
def test_no_training_is_lost_where_nothing_can_be_compiled_nor_recorded_and_both_are_told(
    plan: TrainConfig,  # noqa: F811
    published: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A recording that found no memory ended the job, and the next two attempts."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    short = replace(plan, epochs=1, training=plan.training.model_copy(update={"compile": True}))
    notes = Notebook()
    run = WithoutRoom(short, notes, teacher=published("yolo11n"), distillation=DistillationSpec())
    try:
        run.train()
        assert run.result().epochs == 1
    finally:
        run.close()
    recorded, compiled = notes.optimisations
    assert recorded.sentence == "teacher recorded: no (CUDA out of memory. Tried to allocate 3.12 GiB.)"
    assert compiled.sentence.startswith("student compiled: 0 of 28 layers (")
    assert (recorded.whole, compiled.whole) == (False, False)
    assert f"warning: {compiled.sentence}" in notes.said
