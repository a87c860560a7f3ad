"""Every form of a network gives what the network gives: exactly in float32, nearly in fewer bits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from core.training.pictures import draw
from retort.errors import DataError
from retort.exports import EXPORT_FORMATS
from retort.training import models
from retort.training.evaluate import Conditions, RuntimeAsModule, accuracy
from retort.training.export import tensorrt
from retort.training.export.base import maker
from retort.training.export.calibration import choose, choose_unlabelled
from retort.training.export.folding import folded, integer_share
from retort.training.export.form import Form, metadata
from retort.training.export.ncnn import export_ncnn
from retort.training.export.onnx import export_onnx
from retort.training.export.openvino import export_openvino, quantize_openvino
from retort.training.export.parity import compare
from retort.training.export.qat import QATConfig, train_aware
from retort.training.export.quantization import CalibratedGraph, difference, rank
from retort.training.export.torchscript import export_torchscript
from retort.training.inference import Runtime, load_folded, load_onnx, prepare, wrap_network

S = 96
ABOUT = {"task": "detect", "names": {0: "red"}}


@pytest.fixture(scope="module")
def plenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with 60 training images, of which the first two are its validation images."""
    folder = tmp_path_factory.mktemp("plenty")
    draw(folder, num_train=62, num_val=2)
    for number in range(2):
        (folder / f"images/val/{number}.png").write_bytes((folder / f"images/train/{number}.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def graph(plenty: Path, published: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> CalibratedGraph:
    path = tmp_path_factory.mktemp("graph") / "float.onnx"
    export_onnx(published("yolov8n"), path, S)
    return CalibratedGraph(path, choose(plenty, ["red", "green", "blue"], number=50, seed=0), Form((S, S)))


@pytest.mark.parametrize("form", sorted(EXPORT_FORMATS))
def test_every_export_format_can_be_made_and_run(form: str) -> None:
    found = maker(EXPORT_FORMATS[form]())
    assert callable(found.make)
    assert callable(found.load)


def output(runtime: Runtime, folder: Path) -> torch.Tensor:
    images = sorted((folder / "images/val").iterdir())
    return torch.cat([runtime.run_all(prepare(image, S)[0]) for image in images])


def make(form: str, weights: Path, graph: CalibratedGraph, path: Path) -> None:
    match form:
        case "torchscript fp32":
            export_torchscript(weights, path, Form((S, S)))
        case "ncnn fp32" | "ncnn fp16":
            export_ncnn(weights, path, Form((S, S)), half=form.endswith("16"))
        case "openvino fp32" | "openvino fp16":
            export_openvino(graph.path, path, half=form.endswith("16"), metadata=ABOUT)
        case "openvino int8":
            quantize_openvino(graph, path, kept=(), metadata=ABOUT)
        case "onnx int8":
            graph.write(path)


@pytest.mark.parametrize(
    ("form", "most"),
    [
        ("torchscript fp32", 1e-5), ("openvino fp32", 1e-4), ("openvino fp16", 0.02), ("ncnn fp32", 1e-3),
        ("ncnn fp16", 0.05), ("openvino int8", 0.3), ("onnx int8", 0.3),
    ],
)  # fmt: skip
def test_a_form_gives_what_the_network_gives(  # noqa: PLR0917
    form: str, most: float, published: Callable[..., Path], graph: CalibratedGraph, plenty: Path, tmp_path: Path
) -> None:
    weights, path = published("yolov8n"), tmp_path / "form"
    make(form, weights, graph, path)
    found = maker(EXPORT_FORMATS[form.split(maxsplit=1)[0]]()).load(path, exact=True)
    assert (found.most, found.fixed, found.final) == (1, True, False)
    expected = output(wrap_network(load_folded(weights)), plenty)
    assert difference(expected, output(found, plenty), imgsz=S) <= most
    if most <= 1e-4:
        images = sorted((plenty / "images/val").iterdir())
        assert compare(weights, found, images, S).equal


@pytest.mark.parametrize("folder", ["openvino", "ncnn"])
def test_a_folder_says_to_upstreams_loaders_what_the_network_is(
    folder: str, published: Callable[..., Path], graph: CalibratedGraph, tmp_path: Path
) -> None:
    weights = published("yolov8n")
    if folder == "ncnn":
        export_ncnn(weights, tmp_path / "x", Form((S, S)), half=True)
    else:
        export_openvino(graph.path, tmp_path / "x", half=True, metadata=metadata(load_folded(weights), Form((S, S))))
    told = yaml.safe_load((tmp_path / "x" / "metadata.yaml").read_text())
    assert (told["names"], told["imgsz"], told["stride"]) == ({0: "red", 1: "green", 2: "blue"}, [S, S], 32)


def quantized_layers(model: onnx.ModelProto) -> set[str]:
    """Convolutions whose input comes out of a DequantizeLinear."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    return {
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and made_by.get(node.input[0], node).op_type == "DequantizeLinear"
    }


def test_all_convolutions_but_the_decoders_are_in_int8_and_those_kept_are_not(graph: CalibratedGraph) -> None:
    assert len(graph.layers) == 63  # of yolov8n, whose head has one more with fixed weights
    assert quantized_layers(graph.quantized()) == set(graph.layers)
    kept = set(graph.layers[-3:])
    assert quantized_layers(graph.quantized(kept=kept)) == set(graph.layers) - kept
    assert quantized_layers(graph.quantized(only=[graph.layers[5]])) == {graph.layers[5]}
    assert not set(graph.decoding) & set(graph.layers)
    assert any("dfl" in name for name in graph.decoding)


def test_for_tensorrt_the_zero_of_every_tensor_is_0(graph: CalibratedGraph) -> None:
    model = graph.quantized(symmetric=True)
    zeros = [onnx.numpy_helper.to_array(one) for one in model.graph.initializer if "zero_point" in one.name]
    assert len(zeros) > 100
    assert {zero.dtype for zero in zeros} == {np.dtype(np.int8), np.dtype(np.int32)}  # the latter of biases
    assert not any(zero.any() for zero in zeros)


def test_the_calibration_cache_holds_each_tensors_scale_as_a_float_in_hex(
    graph: CalibratedGraph, tmp_path: Path
) -> None:
    tensorrt.write_cache(graph.scales(), tmp_path / "cache")
    head, *lines = (tmp_path / "cache").read_text().splitlines()
    assert head.startswith("TRT-")
    read = dict(line.rsplit(": ", 1) for line in lines)
    images = struct.unpack(">f", bytes.fromhex(read["images"]))[0]
    assert images == pytest.approx(1 / 127, rel=1e-6)  # pixels reach from 0 to 1
    assert len(read) == len(graph.scales()) > 100


@pytest.mark.train
def test_a_student_trained_on_by_labels_alone_gives_a_graph_with_its_scales(
    published: Callable[..., Path], data_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    batches: list[None] = []
    judged = Conditions(data_yaml, imgsz=S, device="cpu", square=True, loader_workers=0)
    weights = published("yolov8n")
    lesson = QATConfig(
        data_yaml, imgsz=S, batch=8, epochs=1, device="cpu", seed=0, on_batch=lambda: batches.append(None),
        judge=lambda runtime: accuracy(RuntimeAsModule(runtime, models.load(weights).names), judged).map,
    )  # fmt: skip
    aware = train_aware(weights, lesson, tmp_path / "fit").graph
    assert len(batches) == 2  # 16 images to train with
    assert len(quantized_layers(onnx.load(aware))) > 50
    before = aware.read_bytes()
    after = folded(before)
    assert len(after) < 0.4 * len(before)
    assert integer_share(onnx.load_from_string(after)) > 0.9
    (tmp_path / "fit/folded.onnx").write_bytes(after)
    both = [output(load_onnx(path), data_yaml.parent) for path in (aware, tmp_path / "fit/folded.onnx")]
    assert torch.equal(*both)
    images = output(load_onnx(aware), data_yaml.parent)
    assert images.shape == output(wrap_network(load_folded(weights)), data_yaml.parent).shape
    assert {path.name for path in tmp_path.iterdir()} == {"fit"}  # no tracker of upstream's has written


def test_what_this_machine_lacks_for_an_engine_is_told() -> None:
    lacking = tensorrt.missing()
    if torch.cuda.is_available():
        assert lacking is None or "tensorrt" in lacking
    else:
        assert lacking is not None
        assert "no CUDA GPU" in lacking


def test_calibration_images_are_training_images_of_each_class_and_never_validation_images(plenty: Path) -> None:
    names = ["red", "green", "blue"]
    chosen = choose(plenty, names, number=50, seed=0)
    assert len(set(chosen.images)) == 50
    assert not {image.name for image in chosen.images} & {"0.png", "1.png"}  # the bytes of validation images
    assert max(chosen.per_class.values()) - min(chosen.per_class.values()) <= 10
    assert choose(plenty, names, number=50, seed=0) == chosen
    assert choose(plenty, names, number=50, seed=1).images != chosen.images
    assert chosen.warning is not None
    assert "50 calibration images are few: 300" in chosen.warning
    assert len(choose(plenty, names, number=300, seed=0).images) == 60


def test_calibration_images_of_a_folder_need_no_labels(plenty: Path) -> None:
    folder = plenty / "images/train"
    chosen = choose_unlabelled(folder, number=50, seed=0)
    assert len(set(chosen.images)) == 50
    assert {image.parent for image in chosen.images} == {folder}
    assert chosen == choose_unlabelled(folder, number=50, seed=0)
    assert chosen.images != choose_unlabelled(folder, number=50, seed=1).images
    assert (chosen.per_class, chosen.wanted) == ({}, 50)
    assert "50 calibration images are few: 300" in (chosen.warning or "")
    every = choose_unlabelled(folder, number=300, seed=0)
    assert set(every.images) == set(folder.iterdir())


def test_a_rare_class_is_shown_by_all_its_images(tmp_path: Path) -> None:
    draw(tmp_path, num_train=120, num_val=1)
    for number in range(120):
        (tmp_path / f"labels/train/{number}.txt").write_text("2 0.5 0.5 0.1 0.1" if number < 4 else "0 0.5 0.5 0.1 0.1")
    chosen = choose(tmp_path, ["red", "green", "blue"], number=50, seed=3)
    assert chosen.per_class == {"red": 46, "green": 0, "blue": 4}


def test_too_few_images_to_calibrate_with_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, num_train=49, num_val=2)
    with pytest.raises(DataError, match=r"at least 50 training images .* and there are 49") as caught:
        choose(tmp_path, ["red", "green", "blue"], number=300, seed=0)
    assert caught.value.hint is not None
    assert "leave the INT8 exports out" in caught.value.hint


def test_the_difference_counts_where_the_network_sees_something() -> None:
    expected = torch.zeros(1, 5, 2)
    expected[0, 4] = torch.tensor([0.8, 0.0])
    moved, noise = expected.clone(), expected.clone()
    moved[0, 0, 0] = 10.0  # one of four sides, of 100 pixels: 0.025
    moved[0, 4, 0] = 0.6
    noise[0, 0, 1] = 50.0  # where nothing is seen
    assert difference(expected, expected, imgsz=100) == 0
    assert difference(expected, noise, imgsz=100) == 0
    assert difference(expected, moved, imgsz=100) == pytest.approx(0.2 + 0.025)


def test_layers_are_ranked_by_what_int8_does_to_the_output(graph: CalibratedGraph) -> None:
    beats: list[None] = []
    ranking = rank(graph, on_layer=lambda: beats.append(None))
    assert {one.layer for one in ranking} == set(graph.layers)
    assert len(beats) == len(ranking)
    errors = [one.error for one in ranking]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1] >= 0
