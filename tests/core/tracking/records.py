"""Read the event files that TensorBoard would read: records with their checksums, and what they hold."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c


def events(path: Path) -> Iterator[Any]:
    """Yield the records of one file; a wrong length or checksum is an error."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        (header_crc,) = struct.unpack_from("<I", data, at + 8)
        assert header_crc == masked_crc32c(data[at : at + 8])
        record = data[at + 12 : at + 12 + length]
        (record_crc,) = struct.unpack_from("<I", data, at + 12 + length)
        assert record_crc == masked_crc32c(record)
        yield Event.FromString(record)
        at += 16 + length


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return the curves below *folder*, as ``role/metric`` by step; later files win."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        first, *rest = events(path)
        assert first.file_version == "brain.Event:2"
        for event in rest:
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    tag = f"{path.parent.name}/{value.tag}"
                    found.setdefault(tag, {})[event.step] = round(value.simple_value, 5)
    return found


def texts(folder: Path) -> dict[str, str]:
    """Return the texts below *folder* by their tags."""
    return {
        value.tag.removesuffix("/text_summary"): value.tensor.string_val[0].decode()
        for path in sorted(folder.rglob("events.out.tfevents.*"))
        for event in events(path)
        for value in event.summary.value
        if value.tag.endswith("/text_summary")
    }


def pictures(folder: Path) -> dict[str, dict[int, tuple[tuple[int, int], bytes]]]:
    """Return the pictures below *folder*, as ``role/tag`` by step: their size as it is told, and their bytes."""
    found: dict[str, dict[int, tuple[tuple[int, int], bytes]]] = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        for event in events(path):
            for value in event.summary.value:
                if value.WhichOneof("value") == "image":
                    image = value.image
                    shown = (image.width, image.height), image.encoded_image_string
                    found.setdefault(f"{path.parent.name}/{value.tag}", {})[event.step] = shown
    return found


def tags(folder: Path) -> set[str]:
    """Return every tag below *folder*."""
    return {
        value.tag
        for path in folder.rglob("events.out.tfevents.*")
        for event in events(path)
        for value in event.summary.value
    }
