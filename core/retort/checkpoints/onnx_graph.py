"""Read the weights and metadata of ONNX files, within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from retort.checkpoints import allowed, protobuf
from retort.checkpoints.protobuf import FieldReader, FieldSpan
from retort.checkpoints.records import Flaw
from retort.checkpoints.tensor_rows import StoredTensor

SUFFIX = ".onnx"
_IR_VERSIONS = range(4, 14)
_OPSETS = range(11, 27)
_LARGEST_SIDE = 4096
_MOST_NODES = 20_000
_MOST_SIDES = 8
_LONGEST_NAME = 300
_LONGEST_TEXT = 1 << 20
_LISTED = (
    "Add AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose Div Equal Exp "
    "Expand Flatten Gather Gemm GlobalAveragePool HardSigmoid HardSwish Identity LeakyRelu MatMul MaxPool Max Min Mish "
    "Mul Neg Pad Pow PRelu Range ReduceMax ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid Slice Softmax "
    "Softplus Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where"
)
_OPERATORS = frozenset(_LISTED.split())
"""What detectors are made of: none of these opens a file, holds a graph, or repeats one."""
_MORE = (
    "Abs And ArgMax ArgMin Ceil Cos CumSum Einsum Elu Erf Floor GatherElements GatherND Gelu Greater GreaterOrEqual "
    "GridSample GroupNormalization HardSigmoid If InstanceNormalization IsInf IsNaN LayerNormalization Less "
    "LessOrEqual Log LogSoftmax Mod NonMaxSuppression NonZero Not OneHot Or Reciprocal ReduceL2 ReduceMin ReduceProd "
    "RoiAlign Round ScatterElements ScatterND Selu Sign Sin Size Sum TopK Trilu Unique Xor"
)
_OPERATORS_OF_ANY = _OPERATORS | frozenset(_MORE.split())
"""What detectors of other families have beside: selection, attention and NMS. Nothing repeats a graph (Loop, Scan)."""
_DEEPEST = 4
"""Graphs inside of an If."""
_KINDS = {1: "F32", 6: "I32", 7: "I64", 10: "F16", 11: "F64", 9: "BOOL", 2: "U8", 3: "I8", 16: "BF16"}
"""Types of ONNX by their numbers, as safetensors call them."""
_BYTES = dict(allowed.BITS.values())
_FLOATS = {1: "F32", 10: "F16"}
_MODEL_FORBIDDEN = {20: "a training graph", 25: "functions of its own"}
_ATTRIBUTE_GRAPHS = {6, 11}
_METADATA, _GRAPH = 14, 7
_STANDARD = {"", "ai.onnx"}
"""Names of ONNX's own set of operators."""


@dataclass
class OnnxFile:
    """Tensors, shapes and metadata of a file."""

    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    inputs: list[tuple[int | None, ...]] = field(default_factory=list)
    """Shapes; None is a side that is known when it runs."""
    outputs: list[tuple[int | None, ...]] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def read(path: Path, *, plain: bool = True) -> OnnxFile:
    """Read the ONNX file of a detector; its graph is never run here.

    A *plain* one is a YOLO without NMS: one picture in, one table out, and no graph in another. Others may have any
    inputs and outputs.

    Raises:
        Flaw: it is no ONNX file of one, or names anything outside of itself.
        OSError: it cannot be read.

    """
    with path.open("rb") as file:
        return _GraphReader(file, plain=plain).model(FieldSpan(0, path.stat().st_size))


def begins_like_one(begin: bytes) -> bool:
    """Return True if a file that begins so may be ONNX."""
    return len(begin) > 2 and begin[0] == 8 and begin[1] in _IR_VERSIONS


class _GraphReader:
    def __init__(self, file: IO[bytes], *, plain: bool) -> None:
        self._read = FieldReader(file)
        self._plain, self._depth = plain, 0
        self._found = OnnxFile()
        self._nodes = 0
        self._read_by: list[tuple[str, str]] = []
        """The second and third of an operator's inputs: of a convolution, weights and bias."""
        self._same: dict[str, str] = {}
        """Names by which tensors go too."""

    def model(self, span: FieldSpan) -> OnnxFile:
        version, graphs, opsets = 0, 0, list[int]()
        for number, value in self._read.fields(span):
            if number in _MODEL_FORBIDDEN:
                raise Flaw(f"it has {_MODEL_FORBIDDEN[number]}")
            if number == 1 and isinstance(value, int):
                version = value
            elif number == 8:
                opsets += self._opset(_span(value))
            elif number == _METADATA:
                self._add_metadata(_span(value))
            elif number == _GRAPH:
                graphs += 1
                self._graph(_span(value))
        _check_versions(version, graphs, opsets)
        if self._plain:
            self._check_shapes()
        self._share()
        return self._found

    def _opset(self, span: FieldSpan) -> list[int]:
        """Return the version of ONNX's own operators; none of others, which some exporters name and do not use."""
        domain, version = "", 0
        for number, value in self._read.fields(span):
            if number == 1:
                domain = self._read.text(value, _LONGEST_NAME)
            elif number == 2 and isinstance(value, int):
                version = value
        return [version] if domain in _STANDARD else []

    def _add_metadata(self, span: FieldSpan) -> None:
        key = text = ""
        for number, value in self._read.fields(span):
            if number == 1:
                key = self._read.text(value, _LONGEST_NAME)
            elif number == 2:
                text = self._read.text(value, _LONGEST_TEXT)
        if key in self._found.metadata:
            raise Flaw(f"its metadata say {key[:40]!r} twice")
        self._found.metadata[key] = text

    def _graph(self, span: FieldSpan) -> None:
        for number, value in self._read.fields(span):
            if number == 1:
                self._node(_span(value))
            elif number == 5:
                self._initializer(_span(value))
            elif number == 11:
                self._found.inputs.append(self._shape(_span(value)))
            elif number == 12:
                self._found.outputs.append(self._shape(_span(value)))
            elif number == 15:
                raise Flaw("it has sparse tensors")

    def _node(self, span: FieldSpan) -> None:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise Flaw(f"it has more than {_MOST_NODES} operators")
        inputs: list[str] = []
        kind = output = ""
        for number, value in self._read.fields(span):
            if number == 1 and len(inputs) < 3:
                inputs.append(self._read.text(value, _LONGEST_NAME))
            elif number == 2:
                output = output or self._read.text(value, _LONGEST_NAME)
            elif number == 7:
                _insist_on_standard(self._read.text(value, _LONGEST_NAME))
            elif number == 4 and (kind := self._read.text(value, _LONGEST_NAME)) not in (
                _OPERATORS if self._plain else _OPERATORS_OF_ANY
            ):
                raise Flaw(f"it has the operator {kind[:40]!r}, which no plain detector needs")
            elif number == 5:
                self._check_attribute(_span(value))
        if len(inputs) == 3:
            self._read_by.append((inputs[1], inputs[2]))
        elif kind == "Identity" and len(inputs) == 1:
            self._same[output] = inputs[0]

    def _check_attribute(self, span: FieldSpan) -> None:
        for number, value in self._read.fields(span):
            if number in _ATTRIBUTE_GRAPHS:
                self._inner_graph(_span(value))
            if number in {5, 10}:
                self._tensor(_span(value))

    def _inner_graph(self, span: FieldSpan) -> None:
        """Check a branch of an If as the graph itself is checked."""
        if self._plain:
            raise Flaw("it has a graph inside of an operator")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Flaw(f"it has graphs inside of each other, more than {_DEEPEST} deep")
        for number, value in self._read.fields(span):
            if number == 1:
                self._node(_span(value))
            elif number == 5:
                self._tensor(_span(value))
            elif number == 15:
                raise Flaw("it has sparse tensors")
        self._depth -= 1

    def _initializer(self, span: FieldSpan) -> None:
        name, tensor = self._tensor(span)
        if name in self._found.tensors:
            raise Flaw(f"it has the tensor {name[:40]!r} twice")
        if tensor is not None:
            self._found.tensors[name] = tensor

    def _tensor(self, span: FieldSpan) -> tuple[str, StoredTensor | None]:
        """Return the name and the place of a tensor.

        It has no place where its numbers do not lie in a row.
        """
        name, kind, raw = "", 0, None
        shape: list[int] = []
        for number, value in self._read.fields(span):
            if number == 13 or (number == 14 and value == 1):
                raise Flaw("it keeps tensors in other files")
            if number == 1:
                shape += self._read.numbers(value)
            elif number == 2 and isinstance(value, int):
                kind = value
            elif number == 8:
                name = self._read.text(value, _LONGEST_NAME)
            elif number == 9:
                raw = _span(value)
        return name, _stored(name, kind, shape, raw)

    def _shape(self, span: FieldSpan) -> tuple[int | None, ...]:
        """Return the shape of an input or output."""
        for number, value in self._read.fields(span):
            if number == 2:
                for kind, one in self._read.fields(_span(value)):
                    if kind != 1:  # no sequence, map or optional value
                        raise Flaw("its input or output is no tensor")
                    return self._sides(_span(one))
        if self._plain:
            raise Flaw("its input or output has no shape")
        return ()

    def _sides(self, span: FieldSpan) -> tuple[int | None, ...]:
        found: list[int | None] = []
        for number, value in self._read.fields(span):
            if number == 1 and value not in (_FLOATS if self._plain else _KINDS):
                raise Flaw("its input or output is no tensor of floats")
            if number == 2:
                for _, one in self._read.fields(_span(value)):
                    sides = [side for kind, side in self._read.fields(_span(one)) if kind == 1]
                    found.append(sides[0] if sides and isinstance(sides[0], int) else None)
        if len(found) > _MOST_SIDES:
            raise Flaw("its input or output has too many sides")
        return tuple(found)

    def _share(self) -> None:
        """Give each layer its tensors by their own names: exports keep equal ones once."""
        tensors = self._found.tensors
        for name, other in self._same.items():
            if other in tensors:
                tensors.setdefault(name, tensors[other])
        for weight, bias in self._read_by:
            if weight.endswith(".weight") and bias in tensors:
                tensors.setdefault(f"{weight.removesuffix('.weight')}.bias", tensors[bias])

    def _check_shapes(self) -> None:
        """Insist on one picture in, and one table of boxes out."""
        inputs, outputs = self._found.inputs, self._found.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            raise Flaw(f"it has {len(inputs)} inputs and {len(outputs)} outputs; a plain detector has one of each")
        if len(inputs[0]) != 4 or inputs[0][1] not in {3, None}:
            raise Flaw(f"its input has the shape {shown(inputs[0])}, not (1, 3, height, width)")
        if any(side is not None and not 32 <= side <= _LARGEST_SIDE for side in inputs[0][2:]):
            raise Flaw(f"its input has the shape {shown(inputs[0])}; sides of 32 to {_LARGEST_SIDE} are taken")
        if len(outputs[0]) != 3:
            raise Flaw(f"its output has the shape {shown(outputs[0])}, not (1, 4 + classes, places)")


def _check_versions(version: int, graphs: int, opsets: list[int]) -> None:
    if version not in _IR_VERSIONS:
        raise Flaw(f"it has the version {version} of the format; {_IR_VERSIONS[0]} to {_IR_VERSIONS[-1]} are read")
    if graphs != 1:
        raise Flaw(f"it has {graphs} graphs, not one")
    if len(opsets) != 1 or opsets[0] not in _OPSETS:
        raise Flaw(f"it names the operator sets {opsets[:5]}; one of {_OPSETS[0]} to {_OPSETS[-1]} is read")


def shown(shape: tuple[int | None, ...]) -> str:
    """Return a shape for people."""
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"


def with_metadata(more: Mapping[str, str]) -> bytes:
    """Return what is appended to a file so that its metadata hold *more*."""
    return b"".join(
        protobuf.field(_METADATA, protobuf.field(1, key.encode()) + protobuf.field(2, text.encode()))
        for key, text in more.items()
    )


def _span(value: int | FieldSpan) -> FieldSpan:
    if not isinstance(value, FieldSpan):
        raise Flaw("a field in it is of another kind than ONNX has there")
    return value


def _insist_on_standard(domain: str) -> None:
    if domain not in _STANDARD:
        raise Flaw(f"it needs operators of {domain[:60]!r}; only ONNX's own are known")


def _stored(name: str, kind: int, shape: list[int], raw: FieldSpan | None) -> StoredTensor | None:
    """Return the place of a tensor that is as large as it says."""
    if len(shape) > _MOST_SIDES or not all(side < 1 << 40 for side in shape):
        raise Flaw("a tensor in it has a shape that is none")
    if kind not in _KINDS:
        raise Flaw(f"the tensor {name[:60]!r} is of the type {kind}, which no network's numbers have")
    if raw is None:
        return None
    if raw.end - raw.begin != math.prod(shape) * _BYTES[_KINDS[kind]]:
        raise Flaw(f"the tensor {name[:60]!r} of the shape {shape} has {raw.end - raw.begin} bytes")
    return StoredTensor(_KINDS[kind], tuple(shape), *raw)
