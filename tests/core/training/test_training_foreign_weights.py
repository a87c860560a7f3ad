"""Tensors from outside become the network that they are of, if they are its, and answer as their file does."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES
from retort.checkpoints import opening, states
from retort.checkpoints.records import Flaw
from retort.data.converted_weights import convert
from retort.training import foreign_weights, models
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.export.engine import torch2onnx

TYPES = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}


def network(model: str = "yolov8n") -> Any:
    """Return a network whose layers pass on what they see, as after a training."""
    torch.manual_seed(0)
    made = DetectionModel(f"{model}.yaml", nc=len(NAMES), verbose=False)
    for layer in made.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.7, 1.3)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
            layer.momentum = 1.0
    with torch.no_grad():
        made.train()(torch.rand(4, 3, 64, 64))
    made.names = NAMES
    return made.eval()


def answers(found: Any) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = found(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))[0]
    return answer


def written(path: Path, tensors: Mapping[str, torch.Tensor], **told: str) -> Path:
    """Write safetensors as its own library does."""
    header: dict[str, Any] = {
        "__metadata__": {"architecture": "yolov8n", "names": json.dumps(list(NAMES.values())), **told}
    }
    content, place = [], 0
    for name, tensor in tensors.items():
        content.append(tensor.contiguous().numpy().tobytes())
        header[name] = {
            "dtype": TYPES[tensor.dtype], "shape": list(tensor.shape),
            "data_offsets": [place, place := place + len(content[-1])],
        }  # fmt: skip
    begin = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(begin)) + begin + b"".join(content))
    return path


def exported(found: Any, path: Path, **told: str) -> Path:
    """Export as Ultralytics does."""
    import onnx

    made = found.float().fuse(verbose=False).eval()
    made.model[-1].export, made.model[-1].format = True, "onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its exporter
        torch2onnx(made, torch.rand(1, 3, 64, 64), path, opset=17, input_names=["images"], output_names=["output0"])
    model = onnx.load(path)
    about = {"description": "Ultralytics YOLOv8n model ", "names": str(NAMES), "end2end": "False", **told}
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def test_safetensors_of_a_stranger_become_the_network_that_they_are_of(tmp_path: Path) -> None:
    made = network()
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in made.state_dict().items()}
    source = written(tmp_path / "street.safetensors", {name.removeprefix("model."): one for name, one in half.items()})

    found, folded = foreign_weights.network_of(states.read(source))

    assert found.names == NAMES
    assert not folded
    assert torch.equal(answers(found), answers(made.half().float()))


def test_an_onnx_file_becomes_a_network_that_answers_as_it_does(tmp_path: Path) -> None:
    made = network()
    before = answers(made)

    found = convert(exported(made, tmp_path / "street.onnx"), tmp_path / "models")

    again = models.load(found.path)
    assert again.names == NAMES
    assert opening.is_folded(opening.check(found.path, "it"))
    assert torch.allclose(answers(again), before, rtol=1e-3, atol=1e-2)


def test_a_graph_that_computes_something_else_than_its_network_is_refused(tmp_path: Path) -> None:
    import onnx

    path = exported(network(), tmp_path / "street.onnx")
    model = onnx.load(path)
    changed = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    changed.op_type = "Relu"  # a SiLU of the first layer is another activation now
    onnx.save(model, path)

    with pytest.raises(Flaw, match="answers otherwise"):
        foreign_weights.network_of(states.read(path))


def test_tensors_that_lack_are_too_many_or_of_another_shape_are_named(tmp_path: Path) -> None:
    tensors = dict(network().state_dict())
    del tensors["model.0.conv.weight"]
    tensors |= {"extra": torch.ones(1), "model.1.conv.weight": torch.ones(3, 3)}

    with pytest.raises(Flaw) as told:
        foreign_weights.network_of(states.read(written(tmp_path / "street.safetensors", tensors)))

    assert "it lacks model.0.conv.weight" in str(told.value)
    assert "it has beside them model.extra" in str(told.value)
    assert "it has of another shape model.1.conv.weight (3, 3), not (32, 16, 3, 3)" in str(told.value)


def test_another_architecture_than_the_tensors_are_of_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    text = "backbone: [[-1, 1, Conv, [65536, 3, 2]], [-1, 1, Conv, [65536, 3, 2]]]\nhead: [[[0, 1], 1, Detect, [nc]]]"
    source = written(tmp_path / "wide.safetensors", {"model.0.conv.weight": torch.ones(1)}, architecture=text)

    with pytest.raises(Flaw, match="of another shape"):
        foreign_weights.network_of(states.read(source))
