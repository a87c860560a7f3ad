"""Write a network as safetensors with its description inside, and read it back."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from retort.checkpoints import allowed, coding
from retort.checkpoints.allowed import Global
from retort.checkpoints.archive import TorchArchive
from retort.checkpoints.coding import Description, Layer
from retort.checkpoints.description import Tensors
from retort.checkpoints.records import Flaw, Tensor

SUFFIX = ".safetensors"
FORMAT = "retort-network-1"
"""Of the description inside; another layout gets another number."""
_LARGEST_HEADER = 16 << 20
_LENGTH = struct.Struct("<Q")
BEGIN = _LENGTH.size + 1
"""Bytes that tell such a file from an archive: a length, and the brace of its header."""
_CHUNK = 1 << 20
_BYTES = dict(allowed.BITS.values())


@dataclass(frozen=True)
class StoredTensor:
    """Where the numbers of one tensor lie in a converted file."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    """From the file's first byte."""
    end: int


def write(archive: TorchArchive, described: Description, tensors: Tensors, to: IO[bytes]) -> None:
    """Write the network of *archive* with the bits of its tensors unchanged."""
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "network": dumped(described)}}
    place = 0
    for key, one in tensors.found.items():
        size = one.count * one.storage.itemsize
        header[key] = {"dtype": one.storage.kind, "shape": one.shape, "data_offsets": (place, place + size)}
        place += size
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    to.write(_LENGTH.pack(len(content)) + content)
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
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))
        if not 2 <= length <= min(_LARGEST_HEADER, size - _LENGTH.size):
            raise Flaw(f"it begins with a header of {length} bytes")
        content = _exactly(file, length)
    try:
        header = json.loads(content)
        described = _told(header.pop("__metadata__"))
        entries = {key: _entry(one, _LENGTH.size + length) for key, one in header.items()}
        found = _described(described)
        _check_places(entries.values(), _LENGTH.size + length, size)
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


def _entry(given: Mapping[str, Any], start: int) -> StoredTensor:
    shape = tuple(given["shape"])
    begin, end = given["data_offsets"]
    if len(shape) > 8 or not all(type(one) is int and 0 <= one < 1 << 40 for one in (*shape, begin, end)):
        raise Flaw("a tensor in it has a place or a shape that is none")
    count = 1
    for length in shape:
        count *= length
    if end - begin != count * _BYTES[given["dtype"]]:
        raise Flaw(f"a tensor of the shape {shape} has {end - begin} bytes")
    return StoredTensor(given["dtype"], shape, start + begin, start + end)


def _check_places(entries: Any, begin: int, end: int) -> None:
    """Insist that the tensors fill the file one after the other."""
    for one in sorted(entries, key=lambda one: (one.begin, one.end)):
        if one.begin != begin:
            raise Flaw("its tensors do not lie one after the other")
        begin = one.end
    if begin != end:
        raise Flaw("its tensors do not fill the file: it is cut off, or something follows")


def _described(given: Mapping[str, Any]) -> Description:
    return Description(tuple(map(_layer, given["layers"])), given["arguments"])


def _layer(given: Mapping[str, Any]) -> Layer:
    parts = {name: dict(given[name]) for name in ("attributes", "parameters", "buffers", "children")}
    return Layer(of=Global(*given["of"]), trained=tuple(given["trained"]), **parts)
