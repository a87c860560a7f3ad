"""Share the base of annotation formats: images, strict parsing, safe archives."""

from __future__ import annotations

import codecs
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from retort import class_names
from retort.archives.members import ArchiveLimits, Member, checked_path
from retort.archives.zip import zip_members
from retort.errors import DataError
from retort.review.models import DIGITS, Box, ImageName, ReviewError
from retort.schema import FrozenModel

MOST_VALUES = 2_000_000
"""Of a JSON document, counted before it is read."""
MOST_OBJECTS = 500_000
SLACK = 1e-3
"""How far outside of its image a box may reach, as a share of the side: rounding errors of the tool that wrote it."""
Classes = Sequence[str]
Shape = TypeVar("Shape")


class AnnotatedImage(FrozenModel):
    """A picture with its boxes."""

    image: ImageName
    width: int
    height: int
    boxes: tuple[Box, ...]


class ImageSet(FrozenModel):
    """Pictures for one annotation file."""

    classes: tuple[str, ...]
    pictures: tuple[AnnotatedImage, ...]


@dataclass(frozen=True, slots=True)
class ReadImage:
    """A picture in a file of another tool."""

    boxes: tuple[Box, ...]
    place: str
    """Where it is said, for messages."""
    answered: bool | None = None
    """Whether somebody has answered in the tool; None where the form does not say."""
    names: tuple[str, ...] = ()
    """What it may be called beside the name that it is found under, best first."""


@dataclass(frozen=True, slots=True)
class ReadFile:
    """The pictures in a file of another tool, by name."""

    images: Mapping[str, ReadImage]
    ignored: Mapping[str, int] = field(default_factory=dict)
    """What is no box and does not count, in words, and how often."""


@dataclass(frozen=True, slots=True)
class AnnotationFormat:
    """Annotation format: how to write and read pictures with boxes."""

    write: Callable[[ImageSet], bytes]
    read: Callable[[bytes, Classes], ReadFile]
    media_type: str
    suffix: str


class ExternalFile(BaseModel):
    """Part of another tool's file, with only the needed fields checked.

    Unknown fields are ignored; known fields must have the right type.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


def file_name(image: str) -> str:
    """Return the file name of *image* for reviewers."""
    return f"{image}.jpg"


def parse(data: bytes, shape: Any, what: str, hint: str | None = None) -> Any:
    """Parse JSON into *shape*.

    Raises:
        ReviewError: it is not JSON, or not of that shape; the message names the first place that is wrong.

    """
    try:
        if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise ReviewError(f"more than {MOST_VALUES:,} values in the file", hint="send the labels of this job alone")
        return TypeAdapter(shape).validate_json(data.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "$"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ReviewError(
            f"no {what}: {place}: {first['msg']}{more}", hint=hint or f"send what {what} export writes"
        ) from error


def box(name: str, corners: tuple[float, float, float, float], classes: Classes, place: str) -> Box:
    """Return a box from its *corners* as shares of the image's sides.

    Raises:
        ReviewError: its class is unknown, or it has no area, or lies outside of the image; the message names *place*.

    """
    if name not in classes:
        meant = [theirs for _, theirs in class_names.near([name], classes)]
        hint = f"name it {meant[0]!r}, letter by letter" if meant else f"its classes: {', '.join(classes)}"
        raise ReviewError(f"{place}: {name[:100]!r} is no class of this job", hint=hint)
    if not all(math.isfinite(value) and -SLACK <= value <= 1 + SLACK for value in corners):
        raise ReviewError(f"{place}: the box reaches out of its image", hint="keep boxes inside their images")
    x1, y1, x2, y2 = (round(min(1.0, max(0.0, value)), DIGITS) for value in corners)
    if x1 >= x2 or y1 >= y2:
        raise ReviewError(f"{place}: the box has no area", hint="remove it")
    return Box(name=name, x1=x1, y1=y1, x2=x2, y2=y2)


def check_number(objects: int) -> None:
    """Refuse a file with too many objects.

    Raises:
        ReviewError: it has; a review's own file has no more than its pictures' boxes.

    """
    if objects > MOST_OBJECTS:
        raise ReviewError(f"more than {MOST_OBJECTS:,} objects in the file", hint="send the labels of this job alone")


def add(found: dict[str, Shape], image: str, what: Shape, place: str) -> None:
    """Add *what* under the name of its image.

    Raises:
        ReviewError: the image was there before.

    """
    if image in found:
        raise ReviewError(f"{place}: the image {image[:100]} is there twice", hint="each image once")
    found[image] = what


def sized(width: float, height: float, place: str) -> tuple[float, float]:
    """Check that an image has a valid size.

    Raises:
        ReviewError: it has none.

    """
    if not (width > 0 and height > 0 and math.isfinite(width) and math.isfinite(height)):
        raise ReviewError(f"{place}: an image of {width} x {height} pixels", hint="give its width and height")
    return width, height


def read_file(
    found: Mapping[str, Sequence[Box]], places: Mapping[str, str], ignored: Mapping[str, int] | None = None
) -> ReadFile:
    """Return the boxes of a file without answers of people.

    Images are named with their *places*.
    """
    images = {image: ReadImage(tuple(boxes), places[image], names=(image,)) for image, boxes in found.items()}
    return ReadFile(images, ignored or {})


MOST_FILES = 100_000
MOST_BYTES = 64 << 20
"""Of all the files that are read, unpacked."""
_WHEN = (1980, 1, 1, 0, 0, 0)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of *files*."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(zipfile.ZipInfo(name, _WHEN), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def is_zip(data: bytes) -> bool:
    """Return True if *data* begins like a zip archive."""
    return data.startswith(b"PK")


def unpack(data: bytes, suffixes: Collection[str]) -> dict[PurePosixPath, bytes]:
    """Return the files with one of the *suffixes* in a zip.

    They come in the order of the zip. Others are not unpacked, and none is written.

    Raises:
        ReviewError: it is no archive, or not one that should be opened.

    """
    limits = ArchiveLimits(most_files=MOST_FILES)
    try:
        return _unpacked(zip_members(io.BytesIO(data), data, limits), limits, suffixes)
    except DataError as error:
        raise ReviewError(error.message, hint=error.hint) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, struct.error) as error:
        raise ReviewError(f"not a zip archive that can be opened: {error}", hint="pack it again") from error


def _unpacked(
    members: Iterable[Member], limits: ArchiveLimits, suffixes: Collection[str]
) -> dict[PurePosixPath, bytes]:
    found: dict[PurePosixPath, bytes] = {}
    left = MOST_BYTES
    for member in members:
        path = checked_path(member.name, limits)
        if path.name.startswith("._") or "__MACOSX" in path.parts:
            continue  # what a Mac puts beside each file
        if member.folder or path.suffix.lower() not in suffixes:
            continue
        if path in found:
            raise ReviewError(f"{str(path)[:100]} is in the archive twice", hint="pack it again")
        parts = []
        for chunk in member.chunks:
            left -= len(chunk)
            if left < 0:
                raise ReviewError(f"more than {MOST_BYTES >> 20} MiB in the archive", hint="send the labels alone")
            parts.append(chunk)
        found[path] = b"".join(parts)
    return found
