"""Write small ONNX files, sound and malicious ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from retort.checkpoints import protobuf


def graph(told: Mapping[str, str], change: Callable[[Any], None] | None = None) -> bytes:
    """Return the bytes of a file of the shape that detectors have, once *change* has been at it."""
    weight = numpy_helper.from_array(np.ones((5, 3, 1, 1), np.float32), "model.0.conv.weight")
    made = helper.make_graph(
        [
            helper.make_node("Conv", ["images", weight.name], ["a"], kernel_shape=[1, 1], strides=[8, 8]),
            helper.make_node("Reshape", ["a", "shape"], ["output0"]),
        ],
        "main_graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 5, 64])],
        [weight, numpy_helper.from_array(np.array([1, 5, 64]), "shape")],
    )
    model = helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    for key, value in told.items():
        model.metadata_props.add(key=key, value=value)
    if change is not None:
        change(model)
    found: bytes = model.SerializeToString()
    return found


def _outside(place: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    return change


def _node(operator: str, domain: str = "", **attributes: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.graph.node.append(helper.make_node(operator, ["a"], ["b"], domain=domain, **attributes))

    return change


def _set(path: str, value: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        *parts, last = path.split(".")
        place = model
        for part in parts:
            place = place[int(part)] if part.isdecimal() else getattr(place, part)
        if isinstance(value, list):
            del getattr(place, last)[:]
            getattr(place, last).extend(value)
        else:
            setattr(place, last, value)

    return change


def _inner() -> Any:
    return helper.make_graph([], "inner", [], [])


def _info(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def malicious(told: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield files by what they try."""
    changes: dict[str, Callable[[Any], None]] = {
        "tensors in /etc/passwd": _outside("/etc/passwd"),
        "tensors above": _outside("../../secret"),
        "tensors beside it": _outside("weights.bin"),
        "an operator of somebody": _node("Evil", "com.evil"),
        "an operator of Microsoft": _node("FusedConv", "com.microsoft"),
        "Python as an operator": _node("PyOp", "ai.onnx.contrib"),
        "an operator that is not there": _node("Evil"),
        "a branch": _node("If", then_branch=_inner(), else_branch=_inner()),
        "a loop": _node("Loop", body=_inner()),
        "graphs in a list": _node("Identity", bodies=[_inner(), _inner()]),
        "a sequence": _node("SequenceConstruct"),
        "a text among its tensors": lambda model: model.graph.initializer.append(
            helper.make_tensor("t", 8, [1], ["x"])
        ),
        "boxes without doubles": _node("NonMaxSuppression"),
        "functions": lambda model: model.functions.append(
            helper.make_function("f", "F", [], [], [], [helper.make_opsetid("", 18)])
        ),
        "a training": lambda model: model.training_info.add(),
        "sparse tensors": lambda model: model.graph.sparse_initializer.add(),
        "its operators' version twice": lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx", 12)),
        "no operators' version": _set("opset_import", []),
        "operators of the future": _set("opset_import.0.version", 1000),
        "a format of the past": _set("ir_version", 1),
        "a format of the future": _set("ir_version", 99),
        "no input": _set("graph.input", []),
        "two inputs": _set("graph.input", [_info("a", [1, 3, 64, 64]), _info("b", [1, 3, 64, 64])]),
        "an input of a million pixels a side": _set("graph.input", [_info("a", [1, 3, 1 << 20, 1 << 20])]),
        "an input of texts": _set("graph.input", [_info("a", [1, 3, 64, 64], TensorProto.STRING)]),
        "a grey input": _set("graph.input", [_info("a", [1, 1, 64, 64])]),
        "an output of boxes": _set("graph.output", [_info("a", [1, 300])]),
        "two outputs": _set("graph.output", [_info("a", [1, 5, 64]), _info("b", [1, 32, 16, 16])]),
        "a shape of 2**62": _set("graph.initializer.0.dims", [1 << 31, 1 << 31]),
        "a negative shape": _set("graph.initializer.0.dims", [-1, 3]),
        "more numbers than bytes": _set("graph.initializer.0.dims", [1 << 20]),
        "a hundred sides": _set("graph.initializer.0.dims", [1] * 300),
        "a type that is none": _set("graph.initializer.0.data_type", 99),
        "a tensor twice": lambda model: model.graph.initializer.append(model.graph.initializer[0]),
        "no tensors": _set("graph.initializer", []),
        "metadata twice": lambda model: model.metadata_props.append(model.metadata_props[0]),
        "thirty thousand operators": lambda model: model.graph.node.extend([model.graph.node[0]] * 30_000),
    }
    for title, change in changes.items():
        yield f"graph: {title}", graph(told, change)
    yield "graph: says nothing", graph({})
    yield "graph: code as its classes", graph({**told, "names": "__import__('os').system('touch was-run')"})
    yield "graph: classes beyond all bounds", graph({**told, "names": "[" * 100_000})
    yield "graph: no network of that name", graph({**told, "retort.architecture": "resnet50"})
    sound = graph(told)
    yield "graph: cut off", sound[:-40]
    yield "graph: twice", sound + sound[sound.index(b"main_graph") - 200 :]
    yield "graph: a second one", sound + protobuf.field(7, b"")
    yield "graph: a field that reaches out", b"\x08\x08\x3a\xff\xff\xff\xff\x7f" + sound
    yield "graph: a number without an end", b"\x08\x08" + b"\xff" * 40
    yield "graph: groups", b"\x08\x08\x3b" * 10
    yield "graph: a million fields", b"\x08\x08" * 600_000
    assert onnx.load_from_string(sound).graph.node
