"""A TensorRT engine on the GPU that built it: it gives the student's boxes, in half and in INT8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from core.training.pictures import draw
from retort.training.benchmark import Subject, measure
from retort.training.export import tensorrt
from retort.training.export.calibration import choose
from retort.training.export.form import Form, metadata
from retort.training.export.onnx import export_onnx
from retort.training.export.quantization import CalibratedGraph, difference
from retort.training.inference import load_folded, prepare, wrap_network

pytestmark = pytest.mark.train
S = 96


@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.05), ("int8", 0.3)])
def test_an_engine_gives_what_the_network_gives(
    precision: str, most: float, published: Callable[..., Path], tmp_path: Path
) -> None:
    if (lacking := tensorrt.missing()) is not None:
        pytest.skip(lacking)
    draw(tmp_path, num_train=60, num_val=2)
    weights, graph, path = published("yolov8n"), tmp_path / "float.onnx", tmp_path / "student.engine"
    export_onnx(weights, graph, S)
    if precision == "int8":
        ranged = CalibratedGraph(graph, choose(tmp_path, ["red", "green", "blue"], number=50, seed=0), Form((S, S)))
        graph = tmp_path / "int8.onnx"
        ranged.write(graph, symmetric=True)
    about = metadata(load_folded(weights), Form((S, S)))
    tensorrt.build_engine(graph, path, Form((S, S)), precision=precision, workspace_gib=None, metadata=about)
    images = torch.cat([prepare(image, S)[0] for image in sorted((tmp_path / "images/val").iterdir())])
    expected = wrap_network(load_folded(weights)).run_all(images)
    found = tensorrt.load(path).run_all(images).cpu()
    assert difference(expected, found, imgsz=S) <= most
    assert measure({"engine": Subject(lambda: tensorrt.load(path), S)})["engine"].device == "cuda"
