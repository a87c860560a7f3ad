"""A student that is trained on with INT8 simulated in it, taught by its float self or by another network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from core.training.pictures import NAMES
from onnx import numpy_helper
from retort.errors import Stopped
from retort.training.evaluate import Conditions, RuntimeAsModule, accuracy
from retort.training.export import openvino, qat
from retort.training.export.folding import folded
from retort.training.export.form import Form, metadata
from retort.training.export.qat import QATConfig, QATLoop, QATResult, train_aware
from retort.training.export.quantization import difference
from retort.training.inference import Runtime, load_onnx, prepare, wrap_network

pytestmark = pytest.mark.train
S = 96


def measured(data_yaml: Path, runtime: Runtime) -> float:
    judged = Conditions(data_yaml, imgsz=S, device="cpu", square=True, loader_workers=0)
    return accuracy(RuntimeAsModule(runtime, NAMES), judged).map


def config(data_yaml: Path, teacher: Path | None, epochs: int = 1, **given: Any) -> QATConfig:
    return QATConfig(
        data_yaml, imgsz=S, batch=8, epochs=epochs, device="cpu", seed=0, teacher=teacher,
        judge=partial(measured, data_yaml),
        **{"on_batch": lambda: None, **given},
    )  # fmt: skip


@pytest.fixture(scope="module")
def loop(knows: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QATLoop]:
    """A training under the float student, ready for its first batch."""
    made = QATLoop(knows, config(scenes, knows), tmp_path_factory.mktemp("loop"))
    made._setup_train()
    made._model_train()
    yield made
    made.train_loader.close()


@pytest.fixture(scope="module")
def taught(knows: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> QATResult:
    """A training of one epoch under the float student."""
    return train_aware(knows, config(scenes, knows), tmp_path_factory.mktemp("taught"))


def loss_of(loop: QATLoop) -> torch.Tensor:
    """Return the task's losses and, last, what the teacher asks for, of the first batch."""
    batch = loop.preprocess_batch(next(iter(loop.train_loader)))
    found: torch.Tensor = loop.model(batch)[0]
    return found


def images(data_yaml: Path) -> torch.Tensor:
    return torch.cat([prepare(image, S)[0] for image in sorted((data_yaml.parent / "images/val").iterdir())])


def stored(graph: onnx.ModelProto) -> tuple[int, int]:
    """Count the bytes of a graph's weights: in 8 bits, and in more."""
    weights = [array for one in graph.graph.initializer if (array := numpy_helper.to_array(one)).ndim >= 2]
    narrow = [array for array in weights if array.dtype == np.int8]
    return sum(array.nbytes for array in narrow), sum(array.nbytes for array in weights) - sum(a.nbytes for a in narrow)


def test_the_file_holds_its_weights_in_8_bits_and_gives_what_the_training_measured(
    taught: QATResult, knows: Path, scenes: Path, tmp_path: Path
):
    after = folded(taught.graph.read_bytes())
    narrow, wide = stored(onnx.load_from_string(after))
    assert narrow > 20 * wide
    assert taught.integer_share == pytest.approx(narrow / (narrow + wide / 4), abs=0.01)
    assert narrow + wide < 0.55 * knows.stat().st_size  # which is in 16 bits, of 3 million weights
    (tmp_path / "folded.onnx").write_bytes(after)
    assert len(taught.maps) == 2
    assert taught.maps[0] > 0.3
    assert measured(scenes, load_onnx(tmp_path / "folded.onnx")) == pytest.approx(
        taught.maps[taught.best_epoch], abs=0.02
    )


def test_onnxruntime_and_openvino_compute_what_was_simulated(loop: QATLoop, scenes: Path, tmp_path: Path):
    seen = images(scenes)
    expected = wrap_network(loop.best_network).run_all(seen)
    graph = qat._traced(loop.best_network, Form((S, S)))
    (tmp_path / "whole.onnx").write_bytes(graph.SerializeToString())
    (tmp_path / "folded.onnx").write_bytes(folded(graph.SerializeToString()))
    about = metadata(loop.best_network, Form((S, S)))
    for name in ("whole", "folded"):
        openvino.export_openvino(tmp_path / f"{name}.onnx", tmp_path / name, half=True, metadata=about)

    for runtime in (
        *(load_onnx(tmp_path / f"{name}.onnx") for name in ("whole", "folded")),
        *(openvino.load(tmp_path / name) for name in ("whole", "folded")),
    ):
        apart = difference(expected, runtime.run_all(seen), imgsz=S)  # ties are rounded to either side
        assert apart < 0.02


def test_the_teachers_gradient_reaches_the_student_and_nothing_else(loop: QATLoop):
    (slot,) = loop.model.slots
    asked = loss_of(loop)[-1]
    asked.backward()

    assert asked > 0
    student = dict(loop.model.student_model.named_parameters())
    taught = {name for name, weight in student.items() if weight.grad is not None and weight.grad.abs().max() > 0}
    convolutions = {name for name, weight in student.items() if weight.ndim == 4 and ".dfl." not in name}
    assert convolutions <= taught
    assert not any(weight.requires_grad or weight.grad is not None for weight in slot.teacher.model.parameters())
    updated = {id(weight) for group in loop.optimizer.param_groups for weight in group["params"]}
    assert updated <= {id(weight) for weight in student.values()}
    assert not any("teacher" in name for name in loop.ema.ema.state_dict())


def test_without_int8_a_student_has_nothing_to_learn_from_its_float_self(loop: QATLoop):
    batch = loop.preprocess_batch(next(iter(loop.train_loader)))
    quantizers = [one for one in loop.model.student_model.modules() if type(one).__name__ == "TensorQuantizer"]
    used = [one for one in quantizers if one.is_enabled]
    quantized = loop.model(batch)[0][-1]
    for one in used:
        one.disable()
    exact = loop.model(batch)[0][-1]
    for one in used:
        one.enable()

    assert len(used) > 100
    assert exact < 0.01 * quantized


def test_a_training_that_only_harms_gives_back_what_calibration_gave(
    knows: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(qat, "LEARNING_RATE", 1.0)
    found = train_aware(knows, config(scenes, knows), tmp_path)

    assert found.best_epoch == 0
    assert found.maps[0] > found.maps[1]


def test_equal_seeds_give_equal_graphs(taught: QATResult, knows: Path, scenes: Path, tmp_path: Path):
    again = train_aware(knows, config(scenes, knows), tmp_path)
    assert again.maps == taught.maps
    assert again.graph.read_bytes() == taught.graph.read_bytes()


def test_another_network_teaches_through_projectors_that_are_trained(
    knows: Path, published: Callable[..., Path], scenes: Path, tmp_path: Path
):
    made = QATLoop(knows, config(scenes, published("yolov8n", seed=2)), tmp_path)
    made._setup_train()
    loss_of(made).sum().backward()

    projectors = list(made.model.projectors.parameters())
    assert projectors
    assert all(weight.grad is not None for weight in projectors)
    made.train_loader.close()


def test_a_stop_ends_it(knows: Path, scenes: Path, tmp_path: Path):
    def stop() -> None:
        raise Stopped("now")

    with pytest.raises(Stopped):
        train_aware(knows, config(scenes, knows, on_batch=stop), tmp_path)
