"""The ONNX graph of a published network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from retort.errors import UserError
from retort.training.export.form import Form
from retort.training.export.onnx import export_onnx
from retort.training.export.parity import compare
from retort.training.inference import load_onnx


@pytest.mark.parametrize("model", ["yolov8n", "yolo11n", "yolo12n", "yolo26n"])
def test_the_graph_gives_the_boxes_of_the_network(
    model: str, published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    weights, path = published(model), tmp_path / "student.onnx"
    export_onnx(weights, path, 96)
    images = sorted((data_yaml.parent / "images/val").iterdir())[:2]
    found = compare(weights, load_onnx(path), images, 96)
    assert found.equal
    assert found.num_boxes > 0
    assert found.max_relative_error < 1e-4


def test_the_comparison_tells_another_network_apart(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    path = tmp_path / "student.onnx"
    export_onnx(published("yolov8n"), path, 96)
    images = sorted((data_yaml.parent / "images/val").iterdir())[:1]
    found = compare(published("yolov8n", seed=2), load_onnx(path), images, 96)
    assert not found.equal
    assert found.num_unequal > 0


def test_a_dynamic_graph_takes_another_size_and_many_images(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    weights, path = published("yolo11n"), tmp_path / "student.onnx"
    export_onnx(weights, path, Form((96, 96), dynamic=True), simplify=False)
    images = sorted((data_yaml.parent / "images/val").iterdir())[:1]
    runtime = load_onnx(path)
    assert runtime.most is None
    assert compare(weights, runtime, images, 64).equal


def test_the_opset_asked_for_is_the_one_written(published: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "student.onnx"
    export_onnx(published("yolov8n"), path, 64, opset=17)
    assert [entry.version for entry in onnx.load(path).opset_import if entry.domain == ""] == [17]


def test_an_opset_that_torch_cannot_write_is_the_users_error(published: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="opset 25 cannot"):
        export_onnx(published("yolov8n"), tmp_path / "student.onnx", 64, opset=25)
    assert not list(tmp_path.iterdir())
