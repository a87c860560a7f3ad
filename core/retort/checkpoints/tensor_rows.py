"""Read where the tensors of a safetensors file lie, within bounds."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.checkpoints import allowed
from retort.checkpoints.records import Flaw

SUFFIX = ".safetensors"
LENGTH = struct.Struct("<Q")
BEGIN = LENGTH.size + 1
"""Bytes that tell such a file from an archive: a length, and the brace of its header."""
_LARGEST_HEADER = 16 << 20
_MOST_TENSORS = 100_000
_MOST_SIDES = 8
_LONGEST_NAME = 300
_BYTES = dict(allowed.BITS.values())


@dataclass(frozen=True)
class StoredTensor:
    """Where the numbers of one tensor lie in a file."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    """From the file's first byte."""
    end: int


def read(path: Path) -> tuple[Mapping[str, str], dict[str, StoredTensor]]:
    """Return the metadata and the tensors that the header of *path* lists.

    The tensors fill the file without a gap.

    Raises:
        Flaw: it is no such file.
        OSError: it cannot be read.

    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begun = file.read(LENGTH.size)
        if len(begun) != LENGTH.size:
            raise Flaw("it is cut off")
        (length,) = LENGTH.unpack(begun)
        if not 2 <= length <= min(_LARGEST_HEADER, size - LENGTH.size):
            raise Flaw(f"it begins with a header of {length} bytes")
        content = file.read(length)
    start = LENGTH.size + length
    try:
        header = json.loads(content, object_pairs_hook=_once)
        metadata = _metadata(header.pop("__metadata__", {}))
        entries = {_name(key): _entry(one, start) for key, one in header.items()}
    except Flaw:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise Flaw(f"its header cannot be read: {' '.join(str(error).split())[:200]}") from error
    if len(entries) > _MOST_TENSORS:
        raise Flaw(f"it has {len(entries)} tensors")
    _check_places(entries.values(), start, size)
    return metadata, entries


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Flaw("its header says the same name twice")
    return found


def _metadata(given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise Flaw("its metadata are not texts by name")
    return given


def _name(key: str) -> str:
    if not 0 < len(key) <= _LONGEST_NAME or not key.isprintable():
        raise Flaw(f"a tensor in it is called {key[:40]!r}")
    return key


def _entry(given: Mapping[str, Any], start: int) -> StoredTensor:
    shape = tuple(given["shape"])
    begin, end = given["data_offsets"]
    if len(shape) > _MOST_SIDES or not all(type(one) is int and 0 <= one < 1 << 40 for one in (*shape, begin, end)):
        raise Flaw("a tensor in it has a place or a shape that is none")
    kind = given["dtype"]
    if kind not in _BYTES:
        raise Flaw(f"a tensor in it is of the type {str(kind)[:20]!r}")
    if end - begin != math.prod(shape) * _BYTES[kind]:
        raise Flaw(f"a tensor of the shape {shape} has {end - begin} bytes")
    return StoredTensor(kind, shape, start + begin, start + end)


def _check_places(entries: Iterable[StoredTensor], begin: int, end: int) -> None:
    """Insist that the tensors fill the file one after the other."""
    for one in sorted(entries, key=lambda one: (one.begin, one.end)):
        if one.begin != begin:
            raise Flaw("its tensors do not lie one after the other")
        begin = one.end
    if begin != end:
        raise Flaw("its tensors do not fill the file: it is cut off, or something follows")
