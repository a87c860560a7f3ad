"""A graph that is called INT8 holds its weights in 8 bits, and gives what it gave."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from retort.errors import RetortError
from retort.training.export.folding import fold_weights, folded, integer_share

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(8, 3, 3, 3)).astype(np.float32)
SCALES = (np.abs(WEIGHTS).max((1, 2, 3)) / 100).astype(np.float32)  # too small for some: they saturate


def graph(*, quantized: bool = True) -> onnx.ModelProto:
    """A convolution whose float weights pass through a pair of quantization and its inverse."""
    pair = [
        helper.make_node("QuantizeLinear", ["w", "scale", "zero"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], axis=0),
    ]
    nodes = [*(pair if quantized else []), helper.make_node("Conv", ["x", "d" if quantized else "w"], ["y"])]
    values = {"w": WEIGHTS, "scale": SCALES, "zero": np.zeros(8, np.int8)}
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 6, 6])],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def output(model: bytes) -> np.ndarray:
    images = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    found: np.ndarray = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(
        None, {"x": images}
    )[0]
    return found


def test_weights_behind_their_quantization_are_stored_in_8_bits_and_give_the_same():
    """An INT8 graph of quantization-aware training was 12 MB of float weights."""
    before = graph().SerializeToString()

    after = folded(before)

    assert integer_share(onnx.load_from_string(before)) == 0
    assert integer_share(onnx.load_from_string(after)) == 1
    assert "w" not in {one.name for one in onnx.load_from_string(after).graph.initializer}
    assert np.array_equal(output(before), output(after))


def test_a_graph_whose_weights_stay_in_float_is_not_called_int8():
    with pytest.raises(RetortError, match="only 0% of the weights") as caught:
        fold_weights(graph(quantized=False))
    assert caught.value.hint
