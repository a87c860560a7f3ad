"""Write a network as safetensors with its description inside, and read it back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from retort.checkpoints import coding, tensor_rows
from retort.checkpoints.allowed import Global
from retort.checkpoints.archive import TorchArchive
from retort.checkpoints.coding import Description, Layer
from retort.checkpoints.description import Tensors
from retort.checkpoints.records import Flaw, Tensor
from retort.checkpoints.tensor_rows import LENGTH, StoredTensor

FORMAT = "retort-network-1"
"""Of the description inside; another layout gets another number."""
_CHUNK = 1 << 20


def write(archive: TorchArchive, described: Description, tensors: Tensors, to: IO[bytes]) -> None:
    """Write the network of *archive* with the bits of its tensors unchanged."""
    write_rows(archive, tensors, {"format": FORMAT, "network": dumped(described)}, to)


def write_rows(archive: TorchArchive, tensors: Tensors, metadata: Mapping[str, str], to: IO[bytes]) -> None:
    """Write *tensors* of *archive* as safetensors with *metadata*, their bits unchanged."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    place = 0
    for key, one in tensors.found.items():
        size = one.count * one.storage.itemsize
        header[key] = {"dtype": one.storage.kind, "shape": one.shape, "data_offsets": (place, place + size)}
        place += size
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    to.write(LENGTH.pack(len(content)) + content)
    with archive.path.open("rb") as file:
        for one in tensors.found.values():
            for chunk in _bytes_of(one, archive.place_of(one.storage), file):
                to.write(chunk)


def _bytes_of(tensor: Tensor, place: int, file: IO[bytes]) -> Iterator[bytes]:
    """Yield the numbers of *tensor* in rows."""
    if not tensor.count:
        return
    size = tensor.storage.itemsize
    if not _is_in_rows(tensor):
        file.seek(place)
        whole = _exactly(file, tensor.storage.count * size)
        yield b"".join(whole[at * size : (at + 1) * size] for at in _places(tensor))
        return
    file.seek(place + tensor.offset * size)
    left = tensor.count * size
    while left:
        yield _exactly(file, count := min(left, _CHUNK))
        left -= count


def _exactly(file: IO[bytes], count: int) -> bytes:
    found = file.read(count)
    if len(found) != count:
        raise Flaw("a tensor's bytes reach beyond the file")
    return found


def _is_in_rows(tensor: Tensor) -> bool:
    wanted = 1
    for length, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if length != 1 and stride != wanted:
            return False
        wanted *= length
    return True


def _places(tensor: Tensor) -> Iterator[int]:
    """Yield where each number of *tensor* lies in its storage, row by row."""
    places: Any = [tensor.offset]
    for length, stride in zip(tensor.shape, tensor.strides, strict=True):
        places = [at + step * stride for at in places for step in range(length)]
    return iter(places)


def dumped(described: Description) -> str:
    """Return *described* as JSON."""
    layers = [{**asdict(layer), "of": [*layer.of]} for layer in described.layers]
    return json.dumps({"layers": layers, "arguments": described.arguments}, separators=(",", ":"))


def read(path: Path) -> tuple[Description, dict[str, StoredTensor]]:
    """Read and check a converted file's description and tensor offsets.

    Raises:
        Flaw: it is no such file, or describes what no file converted here holds.
        OSError: it cannot be read.

    """
    metadata, entries = tensor_rows.read(path)
    try:
        found = _described(_told(metadata))
        coding.check(found, entries.keys())
    except Flaw:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise Flaw(f"its description cannot be read: {' '.join(str(error).split())[:200]}") from error
    return found, entries


def _told(metadata: Mapping[str, Any]) -> Any:
    """Return the description among a file's metadata."""
    if metadata.get("format") != FORMAT:
        raise Flaw("it holds tensors without the description of a network; send the .pt file that they are from")
    return json.loads(metadata["network"])


def _described(given: Mapping[str, Any]) -> Description:
    return Description(tuple(map(_layer, given["layers"])), given["arguments"])


def _layer(given: Mapping[str, Any]) -> Layer:
    parts = {name: dict(given[name]) for name in ("attributes", "parameters", "buffers", "children")}
    return Layer(of=Global(*given["of"]), trained=tuple(given["trained"]), **parts)
