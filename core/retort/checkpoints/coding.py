"""Decode and check the description of a network."""

from __future__ import annotations

import keyword
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from retort.checkpoints import allowed, architecture_rows
from retort.checkpoints.allowed import Global
from retort.checkpoints.records import Flaw

DEEPEST = 32
"""Of values, and of layers, in one another; networks have a fifth of that."""
MOST_VALUES = 400_000
MOST_LAYERS = 20_000
LONGEST_TEXT = 4096
_LONGEST_NAME = 100
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class Layer:
    """One layer: class, attributes, tensors and sublayers by number."""

    of: Global
    attributes: dict[str, Any]
    """Coded, as ``ValueDecoder`` reads them."""
    parameters: dict[str, str | None]
    """Keys of tensors, by the names in the layer; null where there is none."""
    trained: tuple[str, ...]
    """Parameters that a training changes."""
    buffers: dict[str, str | None]
    children: dict[str, int | None]


@dataclass(frozen=True)
class Description:
    """A network and its arguments; layer 0 is the network itself."""

    layers: tuple[Layer, ...]
    arguments: Any
    """Coded: what the training was given."""


def _nothing(_: str) -> Any:
    return None


class ValueDecoder:
    """Make plain values of coded ones.

    JSON's own stand for themselves; what it lacks is a mapping with one key that names it. Tensors, devices and types
    of numbers are made by the functions given.
    """

    def __init__(
        self,
        *,
        tensor: Callable[[str], Any] = _nothing,
        size: Callable[[tuple[Any, ...]], Any] = tuple,
        device: Callable[[str], Any] = _nothing,
        dtype: Callable[[str], Any] = _nothing,
        namespace: Callable[[dict[str, Any]], Any] = lambda items: SimpleNamespace(**items),
    ) -> None:
        self._named = {"tensor": tensor, "device": device, "dtype": dtype}
        self._listed: dict[str, Callable[[tuple[Any, ...]], Any]] = {"tuple": tuple, "size": size, "set": set}
        self._namespace = namespace
        self._values = 0

    def decoded(self, value: Any, depth: int = 0) -> Any:
        """Return the value that *value* stands for.

        Raises:
            Flaw: it stands for none, or values are too many or lie too deep in one another.

        """
        self._values += 1
        if depth > DEEPEST or self._values > MOST_VALUES:
            raise Flaw("its values lie too deep in one another, or are too many")
        if isinstance(value, list):
            return [self.decoded(one, depth + 1) for one in value]
        if not isinstance(value, dict):
            if isinstance(value, str) and len(value) > LONGEST_TEXT:
                raise Flaw(f"an attribute is a text of {len(value)} characters")
            return value
        if len(value) != 1:
            raise Flaw("a value in its description is of no known kind")
        ((kind, content),) = value.items()
        return self._kind(kind, content, depth + 1)

    def _kind(self, kind: str, content: Any, depth: int) -> Any:
        if kind == "float" and isinstance(content, str) and content in _FLOATS:
            return _FLOATS[content]
        if kind in self._named and isinstance(content, str):
            if kind == "dtype" and Global("torch", content) not in allowed.DTYPES:
                raise Flaw(f"its description has the type {content[:40]!r}")
            return self._named[kind](content)
        if kind in self._listed and isinstance(content, list):
            items = tuple(self.decoded(one, depth) for one in content)
            if kind != "tuple" and not all(type(one) in {str, int} for one in items):
                raise Flaw(f"a {kind} in its description holds something else than text and numbers")
            return self._listed[kind](items)
        if kind in {"mapping", "namespace"} and isinstance(content, list):
            found = self._mapping(content, depth)
            return found if kind == "mapping" else self._namespace({checked_name(key): found[key] for key in found})
        raise Flaw("a value in its description is of no known kind")

    def _mapping(self, pairs: list[Any], depth: int) -> dict[Any, Any]:
        found = {}
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) not in {str, int}:
                raise Flaw("a mapping in its description has keys that are neither text nor numbers")
            found[pair[0]] = self.decoded(pair[1], depth)
        return found


def checked_name(name: Any) -> str:
    """Return the name of an attribute or a layer, if it is one."""
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or not name.isascii() or name.startswith("__"):
        raise Flaw(f"an attribute in it is called {str(name)[:40]!r}")
    if not name.isdecimal() and (not name.isidentifier() or keyword.iskeyword(name)):
        raise Flaw(f"an attribute in it is called {name[:40]!r}")
    return name


def check(described: Description, tensors: Collection[str]) -> None:
    """Insist on known layers, plain values and existing *tensors* in a description.

    Raises:
        Flaw: something else does.

    """
    layers, decoder = described.layers, ValueDecoder(tensor=_known(tensors))
    if not layers or layers[0].of != allowed.DETECTOR or len(layers) > MOST_LAYERS:
        raise Flaw(f"it describes no detector of at most {MOST_LAYERS} layers")
    for layer in layers:
        if layer.of not in allowed.LAYERS:
            raise Flaw(f"it has a layer {str(layer.of)[:80]!r}")
        _check_layer(layer, decoder, tensors, len(layers))
    decoder.decoded(described.arguments)
    check_tree(layers)
    architecture_rows.check(ValueDecoder().decoded(layers[0].attributes.get("yaml")))


def _known(tensors: Collection[str]) -> Callable[[str], None]:
    def known(key: str) -> None:
        if key not in tensors:
            raise Flaw(f"it lacks the tensor {key[:40]!r}")

    return known


def _check_layer(layer: Layer, decoder: ValueDecoder, tensors: Collection[str], count: int) -> None:
    for name, value in layer.attributes.items():
        if checked_name(name).endswith("_hooks") or name in {"_parameters", "_buffers", "_modules"}:
            raise Flaw(f"{layer.of.name} has something in {name}")
        decoder.decoded(value)
    for parts in (layer.parameters, layer.buffers):
        for name, key in parts.items():
            checked_name(name)
            if key is not None and (not isinstance(key, str) or key not in tensors):
                raise Flaw(f"it lacks the tensor {str(key)[:40]!r}")
    for name, child in layer.children.items():
        checked_name(name)
        if child is not None and not (type(child) is int and 0 < child < count):
            raise Flaw("its layers do not hang together")
    if not all(isinstance(name, str) and name in layer.parameters for name in layer.trained):
        raise Flaw(f"{layer.of.name} trains what it has not")


def check_tree(layers: tuple[Layer, ...]) -> None:
    """Insist that the layers are a tree of bounded depth."""
    waits = _parents(layers)
    depths = [0] * len(layers)
    ready, seen = [0] if not waits[0] else [], 0
    while ready:
        number = ready.pop()
        seen += 1
        for child in _numbers(layers[number].children):
            depths[child] = max(depths[child], depths[number] + 1)
            waits[child] -= 1
            if not waits[child]:
                ready.append(child)
    if seen != len(layers) or max(depths) > DEEPEST:
        raise Flaw("its layers lie in a circle, or too deep in one another")


def _numbers(children: Mapping[str, int | None]) -> list[int]:
    return [child for child in children.values() if child is not None]


def _parents(layers: tuple[Layer, ...]) -> list[int]:
    found = [0] * len(layers)
    for layer in layers:
        for child in _numbers(layer.children):
            found[child] += 1
    return found
