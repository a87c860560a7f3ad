"""Evaluate a pickle's known callables without calling them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from retort.checkpoints import allowed
from retort.checkpoints.allowed import Global
from retort.checkpoints.records import (
    DeviceName,
    Flaw,
    Instance,
    NumpyType,
    Ordered,
    Parameter,
    Set,
    Size,
    Storage,
    Tensor,
)

_MOST_DIMENSIONS = 8
_LARGEST = 1 << 53
_DEVICE = re.compile(r"(cpu|cuda|mps)(:[0-9]{1,3})?")
_NUMPY = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H",
    "u1": "B", "b1": "?",
}  # fmt: skip
"""Struct's letters by numpy's, as far as a training's figures are of these types."""


def stands_for(called: Global, arguments: tuple[Any, ...]) -> Any:
    """Return the value that calling *called* with *arguments* stands for.

    Raises:
        Flaw: it stands for none.

    """
    if called in allowed.NAMESPACES and not arguments:
        return Instance(called)
    known = _KNOWN.get(called)
    if known is None:
        raise Flaw(f"it calls {called}")
    return known(arguments)


def storage(identity: Any, sizes: dict[str, int], known: dict[str, Storage]) -> Storage:
    """Return the storage of a persistent id, whose size must be exact.

    Raises:
        Flaw: it names something else.

    """
    match identity:
        case ("storage", Global() as kind, str() as key, str() as device, int() as count) if kind in allowed.STORAGES:
            letters, itemsize = allowed.STORAGES[kind]
        case _:
            raise Flaw("it refers to something beside its tensors")
    if not _DEVICE.fullmatch(device):
        raise Flaw(f"a tensor lies on the device {device[:40]!r}")
    if key not in sizes:
        raise Flaw(f"it lacks the tensor {key[:40]!r}")
    if isinstance(count, bool) or count < 0 or count * itemsize != sizes[key]:
        raise Flaw(f"its tensor {key} claims {count} numbers of {itemsize} bytes, and has {sizes[key]} bytes")
    found = known.setdefault(key, Storage(key, letters, count, itemsize))
    if found.kind != letters:
        raise Flaw(f"its tensor {key} is of two types")
    return found


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    """Read a view; it lies within its storage, and has no more numbers than that."""
    match arguments:
        case (
            Storage() as of,
            int() as offset,
            tuple() as shape,
            tuple() as strides,
            bool() as trained,
            Ordered() as h,
        ):
            hooks: Any = h
        case _:
            raise Flaw("a tensor is not written as torch writes it")
    if hooks:
        raise Flaw("a tensor has hooks")
    if len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
        raise Flaw(f"a tensor has {len(shape)} dimensions and {len(strides)} strides")
    if not all(_counts(number) for number in (offset, *shape, *strides)):
        raise Flaw("a tensor's shape, strides or place are no numbers of things")
    found = Tensor(of, offset, shape, strides, trained)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if found.count and (last >= of.count or found.count > of.count):
        raise Flaw(f"a tensor of the shape {shape} reaches beyond its {of.count} numbers")
    return found


def _counts(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _parameter(arguments: tuple[Any, ...]) -> Parameter:
    match arguments:
        case (Tensor() as tensor, bool() as trained, Ordered() as hooks) if not hooks:
            return Parameter(tensor, trained)
    raise Flaw("a parameter is not written as torch writes it, or has hooks")


def _ordered(arguments: tuple[Any, ...]) -> Ordered:
    if arguments:
        raise Flaw("a mapping is made with arguments")
    return Ordered()


def _set(arguments: tuple[Any, ...]) -> Set:
    match arguments:
        case (list() as items,) if all(isinstance(item, str | int) for item in items):
            return Set(items)
    raise Flaw("a set is not written as torch writes it")


def _size(arguments: tuple[Any, ...]) -> Size:
    match arguments:
        case (tuple() | list() as lengths,) if all(map(_counts, lengths)):
            return Size(lengths)
    raise Flaw("a torch.Size is not written as torch writes it")


def _device(arguments: tuple[Any, ...]) -> DeviceName:
    match arguments:
        case (str() as kind,) if _DEVICE.fullmatch(kind):
            return DeviceName(kind)
        case (str() as kind, int() as number) if _DEVICE.fullmatch(f"{kind}:{number}"):
            return DeviceName(f"{kind}:{number}")
    raise Flaw("a torch.device is none")


def _encode(arguments: tuple[Any, ...]) -> bytes:
    match arguments:
        case (str() as text, "latin1") if len(text) <= _LONGEST_BYTES:
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError:
                pass
    raise Flaw("bytes are not written as pickle writes them")


_LONGEST_BYTES = 64
"""Of the numpy scalars, which alone are written as bytes."""


def _numpy_type(arguments: tuple[Any, ...]) -> NumpyType:
    match arguments:
        case (str() as code, *more) if code in _NUMPY and len(more) <= 2:
            return NumpyType(code)
    raise Flaw("a numpy.dtype is of a type that no training's figures have")


def _numpy_scalar(arguments: tuple[Any, ...]) -> float | int | bool:
    match arguments:
        case (NumpyType(code), bytes() as content) if len(content) == int(code[1]):
            (found,) = struct.unpack(f"<{_NUMPY[code]}", content)
            return found  # type: ignore[no-any-return]
    raise Flaw("a numpy scalar is not written as numpy writes it")


def _path(arguments: tuple[Any, ...]) -> str:
    if not all(isinstance(part, str) for part in arguments):
        raise Flaw("a path is not written as Python writes it")
    return "/".join(part.rstrip("/") if len(part) > 1 else part.strip("/") for part in arguments)


_KNOWN: dict[Global, Callable[[tuple[Any, ...]], Any]] = {
    allowed.REBUILD_TENSOR: _tensor,
    allowed.REBUILD_PARAMETER: _parameter,
    allowed.ORDERED: _ordered,
    allowed.SIZE: _size,
    allowed.DEVICE: _device,
    allowed.ENCODE: _encode,
    allowed.NUMPY_DTYPE: _numpy_type,
    **dict.fromkeys(allowed.NUMPY_SCALARS, _numpy_scalar),
    **dict.fromkeys(allowed.SETS, _set),
    **dict.fromkeys(allowed.PATHS, _path),
}
