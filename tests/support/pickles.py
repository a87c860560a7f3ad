"""Write pickles opcode by opcode, so that files may hold what no pickler would write."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple


class Global(NamedTuple):
    """A name that the pickle refers to."""

    module: str
    name: str


class Called(NamedTuple):
    """What *function* gives with *arguments*: REDUCE."""

    function: Any
    arguments: Any


class Made(NamedTuple):
    """An object of a class: NEWOBJ."""

    of: Any
    arguments: tuple[Any, ...] = ()


class Filled(NamedTuple):
    """A value that is given a state: BUILD."""

    value: Any
    state: Any


class Persistent(NamedTuple):
    """What a persistent id stands for: BINPERSID."""

    identity: Any


class Opcodes(NamedTuple):
    """Opcodes as they are."""

    content: bytes


Ordered = Called(Global("collections", "OrderedDict"), ())


def pickled(value: Any, protocol: int = 2) -> bytes:
    """Return a pickle of *value*."""
    return b"\x80" + bytes([protocol]) + written(value) + b"."


def written(value: Any) -> bytes:  # noqa: C901, PLR0911, PLR0912 - a kind of value each
    """Return the opcodes that leave *value* on the stack."""
    match value:
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            return b"J" + struct.pack("<i", value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case Opcodes(content):
            return content
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Called(function, arguments):
            return written(function) + written(arguments) + b"R"
        case Made(of, arguments):
            return written(of) + written(arguments) + b"\x81"
        case Filled(one, state):
            return written(one) + written(state) + b"b"
        case Persistent(identity):
            return written(identity) + b"Q"
        case Mapping():
            return b"}(" + b"".join(written(key) + written(one) for key, one in value.items()) + b"u"
        case list():
            return b"](" + b"".join(map(written, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(written, value)) + b"t"
    raise TypeError(type(value))


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage") -> Persistent:
    """Return a storage as torch refers to it."""
    return Persistent(("storage", Global("torch", kind), key, "cpu", count))


def tensor(of: Any = None, shape: Any = (4,), strides: Any = (1,), offset: Any = 0, hooks: Any = Ordered) -> Called:
    """Return a tensor as torch writes it."""
    return Called(
        Global("torch._utils", "_rebuild_tensor_v2"), (of or storage(), offset, shape, strides, False, hooks)
    )  # fmt: skip


def parameter(value: Any = None, hooks: Any = Ordered) -> Called:
    """Return a parameter as torch writes it."""
    return Called(Global("torch._utils", "_rebuild_parameter"), (value or tensor(), True, hooks))


def layer(module: str, name: str, state: Mapping[str, Any] | None = None, **layers: Any) -> Filled:
    """Return a layer as torch writes it, with *state* beside what every layer has."""
    plain = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": layers}
    return Filled(Made(Global(module, name)), {**plain, **(state or {})})


DESCRIBED = {
    "nc": 1,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
    "head": [[[0], 1, "Detect", ["nc"]]],
    "yaml_file": "small.yaml",
}
"""The description that a small network was built from."""


def network(state: Mapping[str, Any] | None = None, names: Any = None, **layers: Any) -> Filled:
    """Return a detection network that holds what a file must say, and next to nothing else."""
    told = {"names": {0: "thing"} if names is None else names, "yaml": DESCRIBED, **(state or {})}
    return layer("ultralytics.nn.tasks", "DetectionModel", told, **layers)
