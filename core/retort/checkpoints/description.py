"""Describe the network of a checkpoint in plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from retort.checkpoints import allowed, coding
from retort.checkpoints.allowed import Global
from retort.checkpoints.coding import DEEPEST, MOST_LAYERS, MOST_VALUES, Description, Layer
from retort.checkpoints.records import DeviceName, Flaw, Instance, Ordered, Parameter, Set, Size, Tensor

_HOOKS = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called")
"""How attributes end that hold functions to be called; a file has none."""
_DROPPED = frozenset({"criterion", "class_weights", "pt_path"})
"""Attributes of a network that its training has left there."""


@dataclass
class Tensors:
    """Tensors by the keys that a description has for them."""

    found: dict[str, Tensor] = field(default_factory=dict)
    _keys: dict[int, str] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)

    def key_of(self, value: Tensor | Parameter) -> str:
        """Return the key of *value*; that of the same value is the same."""
        key = self._keys.get(id(value))
        if key is None:
            key = self._keys[id(value)] = str(len(self._keys))
            self._kept.append(value)  # so that no other gets its id
            self.found[key] = value.tensor if isinstance(value, Parameter) else value
        return key

    def insist_on(self, most: int) -> None:
        """Insist that all tensors have *most* bytes at most in total.

        Raises:
            Flaw: they have more, as where many are views of the same numbers.

        """
        total = sum(one.count * one.storage.itemsize for one in self.found.values())
        if total > most:
            raise Flaw(f"its tensors have {total} bytes together, and itself {most}")


_STATES = ("model", "state_dict", "model_state_dict")
"""Keys under which trainings keep a state dict."""


def state_tensors(checkpoint: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict.

    A file may keep it under a usual key.

    Raises:
        Flaw: it is none.

    """
    held = checkpoint if isinstance(checkpoint, dict) else {}
    state = next((held[key] for key in _STATES if isinstance(held.get(key), dict)), held)
    found = {name: one.tensor if isinstance(one, Parameter) else one for name, one in state.items()}
    if not found or not all(isinstance(name, str) and isinstance(one, Tensor) for name, one in found.items()):
        raise Flaw("it holds neither a network nor a state dict")
    return found


def network_in(checkpoint: Any) -> Instance:
    """Return the network of a file, the averaged one where it exists.

    Raises:
        Flaw: there is none.

    """
    held = checkpoint if type(checkpoint) is dict else {}
    network = held.get("ema") or held.get("model")
    if isinstance(network, Instance) and network.of == allowed.DISTILLATION:
        network = parts(network, "_modules").get("student_model")
    if held.get("modelopt"):
        raise Flaw("it was trained with simulated quantization, whose network is another")
    if not isinstance(network, Instance):
        raise Flaw("it holds no network")
    if network.of == allowed.TRANSFORMER:
        raise NotADetector("it is an RT-DETR, which can only teach, named by a file of the model folder")
    if allowed.renamed(network.of) != allowed.DETECTOR:
        raise NotADetector(f"it is a {network.of.name}")
    return network


class NotADetector(Flaw):
    """The file holds a network of another kind."""


def describe(checkpoint: Any) -> tuple[Description, Tensors]:
    """Describe the network in a file that was read.

    Raises:
        Flaw: it holds no detector, or something that no network needs.

    """
    writer = _Describer()
    layers = tuple(writer.layers(network_in(checkpoint)))
    described = Description(layers, writer.coded(arguments_of(checkpoint)))
    coding.check(described, writer.tensors.found.keys())
    return described, writer.tensors


def arguments_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the training was given, as far as a file says it."""
    found = checkpoint.get("train_args")
    if isinstance(found, Instance) and found.of in allowed.NAMESPACES:
        found = found.attributes
    return dict(found) if type(found) in {dict, Ordered} else {}  # type: ignore[arg-type]


class _Describer:
    """Number the layers and code their attributes, within bounds."""

    def __init__(self) -> None:
        self.tensors = Tensors()
        self._values = 0

    def layers(self, network: Instance) -> list[Layer]:
        """Return the layers of *network*, itself first.

        A layer that two places share has one number.
        """
        waiting, numbers, found = [network], {id(network): 0}, []
        for layer in waiting:  # which grows
            children = dict(self._children(layer))
            for child in children.values():
                if child is not None and id(child) not in numbers:
                    numbers[id(child)] = len(waiting)
                    waiting.append(child)
            if len(waiting) > MOST_LAYERS:
                raise Flaw(f"it has more than {MOST_LAYERS} layers")
            places = {name: None if child is None else numbers[id(child)] for name, child in children.items()}
            found.append(self._layer(layer, places))
        return found

    def _children(self, layer: Instance) -> Iterator[tuple[str, Instance | None]]:
        for name, child in parts(layer, "_modules").items():
            if child is not None and not isinstance(child, Instance):
                raise Flaw(f"{layer.of.name}.{name} is no layer")
            yield name, child

    def _layer(self, layer: Instance, children: dict[str, int | None]) -> Layer:
        of = allowed.renamed(layer.of)
        if of not in allowed.LAYERS:
            raise NotADetector(f"it has a layer {layer.of.name}")
        parameters, trained = {}, []
        for name, value in parts(layer, "_parameters").items():
            if value is not None and not isinstance(value, Parameter):
                raise Flaw(f"{of.name}.{name} is no parameter")
            parameters[name] = None if value is None else self.tensors.key_of(value)
            if value is not None and value.requires_grad:
                trained.append(name)
        buffers = {}
        for name, value in parts(layer, "_buffers").items():
            if value is not None and not isinstance(value, Tensor):
                raise Flaw(f"{of.name}.{name} is no buffer")
            buffers[name] = None if value is None else self.tensors.key_of(value)
        return Layer(of, self._attributes(layer), parameters, tuple(trained), buffers, children)

    def _attributes(self, layer: Instance) -> dict[str, Any]:
        found = {}
        for name, value in (layer.attributes or {}).items():
            if name in {"_parameters", "_buffers", "_modules"}:
                continue
            if name.endswith(_HOOKS):
                _check_hooks(layer, name, value)
            elif name not in _DROPPED:
                found[name] = self.coded(value)
        return found

    def coded(self, value: Any, depth: int = 0) -> Any:
        """Return *value* as JSON; what JSON lacks is a mapping with one key.

        Raises:
            Flaw: it is no plain value, or there are too many.

        """
        self._values += 1
        if depth > DEEPEST or self._values > MOST_VALUES:
            raise Flaw("its values lie too deep in one another, or are too many")
        if value is None or type(value) in {bool, int, str}:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        return self._coded_kind(value, depth + 1)

    def _coded_kind(self, value: Any, depth: int) -> Any:
        match value:
            case Tensor() | Parameter():
                return {"tensor": self.tensors.key_of(value)}
            case DeviceName():
                return {"device": str(value)}
            case Global() if value in allowed.DTYPES:
                return {"dtype": value.name}
            case Instance(of=of, attributes=state) if of in allowed.NAMESPACES:
                return {"namespace": self._items(state or {}, depth)}
            case dict():
                return {"mapping": self._items(value, depth)}
        kinds: dict[type[Any], str | None] = {list: None, tuple: "tuple", Size: "size", Set: "set"}
        if type(value) not in kinds:
            what = value.of.name if isinstance(value, Instance) else type(value).__name__
            raise Flaw(f"an attribute in it is a {what}")
        items = [self.coded(item, depth) for item in value]
        kind = kinds[type(value)]
        return items if kind is None else {kind: items}

    def _items(self, mapping: Mapping[Any, Any], depth: int) -> list[list[Any]]:
        return [[self.coded(key, depth), self.coded(item, depth)] for key, item in mapping.items()]


def parts(layer: Instance, name: str) -> dict[str, Any]:
    """Return a layer's parameters, buffers or layers.

    Raises:
        Flaw: it lacks them.

    """
    found = (layer.attributes or {}).get(name)
    if type(found) not in {dict, Ordered} or not all(type(key) is str for key in found):  # type: ignore[union-attr]
        raise Flaw(f"{layer.of.name} lacks {name}")
    return found  # type: ignore[return-value]


def _check_hooks(layer: Instance, name: str, value: Any) -> None:
    """Insist that a layer calls nothing beside itself; what Ultralytics' distillation has hung there is let go."""
    hooks = list(value.values()) if type(value) in {dict, Ordered} else [] if value is None else [value]
    if not all(isinstance(one, Instance) and one.of == allowed.HOOK for one in hooks):
        raise Flaw(f"{layer.of.name} has something in {name}")
