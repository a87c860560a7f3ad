"""Fold quantization into a graph, whose weights are stored in INT8."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from retort.errors import RetortError

LEAST_SHARE = 0.9
"""Of the weights: a graph with fewer in INT8 is not what its name says."""


def fold_weights(model: Any) -> None:
    """Replace float weights behind a QuantizeLinear by the integers that it gives.

    Quantization-aware training leaves both in the graph, which then is as large as in float32.

    Raises:
        RetortError: most weights are in float all the same.

    """
    graph = model.graph
    known = _constants(graph)
    folded: dict[str, str] = {}
    for node in [one for one in graph.node if one.op_type == "QuantizeLinear" and one.input[0] in known]:
        if not all(name in known for name in node.input if name):
            continue
        weights = numpy_helper.from_array(_integers(node, known), f"{node.output[0]}_folded")
        graph.initializer.append(weights)
        folded[node.output[0]] = weights.name
        graph.node.remove(node)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = folded.get(name, name)
    _drop_unused(graph)
    share = integer_share(model)
    if share < LEAST_SHARE:
        raise RetortError(
            f"only {share:.0%} of the weights of this graph are in INT8", hint="leave aware_epochs out for this student"
        )


def integer_share(model: Any) -> float:
    """Return the share of a graph's weights that is stored in 8 bits."""
    arrays = [numpy_helper.to_array(one) for one in model.graph.initializer]
    weights = [array for array in arrays if array.ndim >= 2]  # convolutions, and no biases or constants
    total = sum(array.size for array in weights)
    return sum(array.size for array in weights if array.dtype.itemsize == 1) / total if total else 0.0


def _constants(graph: Any) -> dict[str, np.ndarray]:
    found = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _integers(node: Any, known: dict[str, np.ndarray]) -> np.ndarray:
    """Quantize as ONNX defines it: divide, round to even, add the zero, saturate."""
    weights, scale = known[node.input[0]], known[node.input[1]]
    zero = known[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(scale.shape, np.uint8)
    axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
    if scale.ndim == 1 and scale.size > 1:
        shape = [-1 if number == axis % weights.ndim else 1 for number in range(weights.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    limits = np.iinfo(zero.dtype)
    found: np.ndarray = np.clip(np.rint(weights / scale) + zero, limits.min, limits.max).astype(zero.dtype)
    return found


def _drop_unused(graph: Any) -> None:
    """Remove the constants that nothing reads any more, float weights above all."""
    used = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
    for one in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(one)
    for node in [one for one in graph.node if one.op_type == "Constant" and one.output[0] not in used]:
        graph.node.remove(node)


def folded(path_bytes: bytes) -> bytes:
    """Return a graph, a file's bytes, with its weights in INT8."""
    model = onnx.load_from_string(path_bytes)
    fold_weights(model)
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString()
    return written
