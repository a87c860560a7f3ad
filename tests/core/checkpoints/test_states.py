"""Tensors from outside say, or are told, which network they are of; where they lie is checked before they are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from retort.checkpoints import onnx_graph, opening, rtdetr, states, tensor_rows
from retort.data import weights
from retort.errors import ModelError
from support import graphs
from support.checkpoints import archive
from support.malicious_checkpoints import TOLD, rows
from support.pickles import DESCRIBED, Called, Global, layer, parameter, pickled, tensor

SET = Global("__builtin__", "set")
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def test_safetensors_are_given_an_architecture_and_names_and_keep_their_tensors(tmp_path: Path):
    source, to = tmp_path / "mine", tmp_path / "whole"
    source.write_bytes(rows({"__metadata__": {"trained": "yes"}, "a": ONE}, b"abcd"))
    with pytest.raises(ModelError, match="which network"):
        weights.check_checkpoint(source, "mine")

    states.completed(source, to, "mine", architecture_text="yolo11n", names=["car", "it's"])

    assert weights.check_checkpoint(to, "whole") == ("car", "it's")
    found, (metadata, _) = states.read(to), tensor_rows.read(to)
    place = found.tensors["a"]
    assert (found.architecture, metadata["trained"]) == ("yolo11n", "yes")
    assert to.read_bytes()[place.begin : place.end] == b"abcd"


def test_an_onnx_file_is_given_names_and_is_still_one(tmp_path: Path):
    import onnx

    source, to = tmp_path / "mine", tmp_path / "whole"
    source.write_bytes(
        graphs.graph({"description": "Ultralytics YOLOv8n model trained on x.yaml", "names": "{0: 'a'}"})
    )
    assert weights.check_checkpoint(source, "mine") == ("a",)

    states.completed(source, to, "mine", architecture_text="yolo11s", names=["b"])

    assert weights.check_checkpoint(to, "whole") == ("b",)
    assert states.read(to).architecture == "yolo11s"
    onnx.checker.check_model(onnx.load_from_string(to.read_bytes()))


def test_an_architecture_may_be_the_yaml_of_a_model():
    text = (
        "scales: {n: [0.5, 0.25, 64], s: [1, 1, 64]}\nbackbone: [[-1, 1, Conv, [16]]]\nhead: [[[0], 1, Detect, [nc]]]"
    )
    described = states.architecture(text)
    assert isinstance(described, dict)
    assert described["scale"] == "n"


def test_a_checkpoint_is_given_nothing(tmp_path: Path):
    (tmp_path / "mine.pt").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(ModelError, match="by itself"):
        states.completed(tmp_path / "mine.pt", tmp_path / "to", "mine.pt", architecture_text="yolo11n", names=())
    assert not (tmp_path / "to").exists()


def test_a_convolution_whose_bias_has_anothers_name_finds_it(tmp_path: Path):
    """Exports keep equal tensors once."""

    def share(model: object) -> None:
        model.graph.node[0].input.append("bias")  # type: ignore[attr-defined]

    from onnx import numpy_helper

    def changed(model: object) -> None:
        share(model)
        import numpy as np

        model.graph.initializer.append(numpy_helper.from_array(np.ones(5, np.float32), "bias"))  # type: ignore[attr-defined]

    (tmp_path / "mine").write_bytes(graphs.graph(TOLD, changed))
    found = onnx_graph.read(tmp_path / "mine").tensors
    assert found["model.0.conv.bias"] == found["bias"]


TRANSFORMER = ("ultralytics.nn.tasks", "RTDETRDetectionModel")


def test_an_rtdetr_is_taken_out_as_tensors_with_its_description(tmp_path: Path):
    path = tmp_path / "detr.pt"
    inner = layer("torch.nn.modules.sparse", "Embedding", {"_parameters": {"weight": parameter()}})
    kept = {"_buffers": {"seen": tensor(), "cache": tensor()}, "_non_persistent_buffers_set": Called(SET, (["cache"],))}
    whole = layer(*TRANSFORMER, {"names": {0: "thing"}, "yaml": DESCRIBED, **kept}, embed=inner)
    path.write_bytes(archive(pickled({"model": whole})))
    _, tensors, metadata = opening.open_tensors(path, "detr.pt")
    assert sorted(tensors.found) == ["embed.weight", "seen"]
    assert json.loads(metadata[rtdetr.ARCHITECTURE]) == {key: DESCRIBED[key] for key in ("nc", "backbone", "head")}
    assert states.names_in(metadata) == ("thing",)


def test_an_rtdetr_of_other_things_than_tensors_is_refused(tmp_path: Path):
    deep = layer("torch.nn.modules.linear", "Identity")
    for _ in range(40):
        deep = layer("torch.nn.modules.linear", "Identity", a=deep)
    told = {"names": {0: "thing"}, "yaml": DESCRIBED}
    for state, layers, why in (
        ({"yaml": "/etc/passwd"}, {}, "lacks the description"),
        ({"yaml": {**DESCRIBED, "nc": deep}}, {}, "built from is none"),
        ({"_parameters": {"w": "text"}}, {}, "w is no tensor"),
        ({}, {"a": "text"}, "a is no layer"),
        ({}, {"a": deep}, "too deep in one another"),
        ({"_modules": 7}, {}, "lacks _modules"),
    ):
        path = tmp_path / "detr.pt"
        path.write_bytes(archive(pickled({"model": layer(*TRANSFORMER, {**told, **state}, **layers)})))
        with pytest.raises(ModelError, match=why):
            opening.open_tensors(path, "detr.pt")
