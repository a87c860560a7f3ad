"""Rebuild a network from its description and tensors, without a pickle."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from retort.checkpoints import allowed, converted, opening
from retort.checkpoints.allowed import Global
from retort.checkpoints.archive import TorchArchive
from retort.checkpoints.coding import Description, Layer, ValueDecoder
from retort.checkpoints.description import Tensors
from retort.checkpoints.records import Flaw
from retort.checkpoints.tensor_rows import StoredTensor
from retort.training.ultralytics_api import DEFAULT_CFG_DICT

_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""torch's types by their names in safetensors."""
_SHADOWED = frozenset({"type"})
"""Functions of layers that Ultralytics itself hides behind an attribute."""


def rebuild(weights: Path) -> Any:
    """Rebuild the network in the file *weights*, as it was saved, on the CPU.

    Nothing in the file is unpickled; it is a .pt file of Ultralytics, or one that was converted here.

    Raises:
        ModelError: the file describes no such network.
        Flaw: the network is described, and cannot be.

    """
    if opening.is_converted(weights):
        described, entries = converted.read(weights)
        return _network(described, _from_rows(weights, entries))
    archive, described, tensors = opening.open_checkpoint(weights, weights.name)
    return _network(described, _from_archive(archive, tensors))


def _from_rows(path: Path, entries: dict[str, StoredTensor]) -> Callable[[str], Tensor]:
    return lambda key: stored_tensor(path, entries[key])


def stored_tensor(path: Path, one: StoredTensor) -> Tensor:
    """Read one tensor of the file *path*."""
    return _read(path, one.begin, one.end - one.begin, _TYPES[one.kind]).reshape(one.shape)


def _from_archive(archive: TorchArchive, tensors: Tensors) -> Callable[[str], Tensor]:
    storages: dict[str, Tensor] = {}

    def tensor(key: str) -> Tensor:
        one = tensors.found[key]
        if (of := one.storage).key not in storages:
            storages[of.key] = _read(archive.path, archive.place_of(of), of.count * of.itemsize, _TYPES[of.kind])
        return storages[of.key].as_strided(one.shape, one.strides, one.offset)

    return tensor


def _read(path: Path, begin: int, size: int, kind: torch.dtype) -> Tensor:
    """Read numbers of one type that lie in a row."""
    if not size:
        return torch.empty(0, dtype=kind)
    content = bytearray(size)
    with path.open("rb") as file:
        file.seek(begin)
        if file.readinto(content) != size:
            raise Flaw("a tensor's bytes reach beyond the file")
    return torch.frombuffer(content, dtype=kind)


def _network(described: Description, read: Callable[[str], Tensor]) -> Any:
    """Put the layers together, and give the network what upstream gives one that it loads."""
    known: dict[str, Any] = {}

    def tensor(key: str) -> Any:
        if key not in known:
            known[key] = read(key)
        return known[key]

    decoder = ValueDecoder(
        tensor=tensor, size=torch.Size, device=torch.device, dtype=lambda name: getattr(torch, name),
        namespace=lambda items: SimpleNamespace(**items),
    )  # fmt: skip
    modules = [_bare(layer.of) for layer in described.layers]
    parameters: dict[tuple[str, bool], nn.Parameter] = {}

    def parameter(key: str, trained: bool) -> nn.Parameter:
        if (key, trained) not in parameters:
            parameters[key, trained] = nn.Parameter(tensor(key), requires_grad=trained)
        return parameters[key, trained]

    for layer, module in reversed(list(zip(described.layers, modules, strict=True))):
        _fill(module, layer, modules, decoder, tensor, parameter)
    return _as_loaded(modules[0], decoder.decoded(described.arguments))


def _bare(of: Global) -> Any:
    """Return a layer of the class *of* without anything in it; its constructor is not called."""
    assert of in allowed.LAYERS, "checked where the file was read"
    found = getattr(importlib.import_module(of.module), of.name)
    module = found.__new__(found)
    nn.Module.__init__(module)
    return module


def _fill(  # noqa: PLR0917 - a layer and where its parts come from
    module: Any,
    layer: Layer,
    modules: list[Any],
    decoder: ValueDecoder,
    tensor: Callable[[str], Any],
    parameter: Callable[[str, bool], nn.Parameter],
) -> None:
    """Give a bare layer its attributes, tensors and layers."""
    for name in layer.attributes:
        if name not in _SHADOWED and inspect.isroutine(getattr(type(module), name, None)):
            raise Flaw(f"an attribute of {layer.of.name} is called {name}, which is a function of it")
    module.__setstate__({
        **{name: decoder.decoded(value) for name, value in layer.attributes.items()},
        "_parameters": {
            name: None if key is None else parameter(key, name in layer.trained)
            for name, key in layer.parameters.items()
        },
        "_buffers": {name: None if key is None else tensor(key) for name, key in layer.buffers.items()},
        "_modules": {name: None if child is None else modules[child] for name, child in layer.children.items()},
    })  # fmt: skip


def _as_loaded(network: Any, arguments: Any) -> Any:
    """Return *network* as Ultralytics gives one that it has loaded: float32, in eval mode, with all arguments."""
    network = network.float()
    network.args = {**DEFAULT_CFG_DICT, **arguments}
    if not hasattr(network, "task"):
        network.task = "detect"
    if not hasattr(network, "stride"):
        network.stride = torch.tensor([32.0])
    network.eval()
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
        elif isinstance(module, nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None
    return network
