"""What all forms have in common: pictures with boxes, and how strangers' numbers and names become such."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from retort.review.boxes import DIGITS, Box
from retort.review.decisions import ReviewError
from retort.review.pictures import ImageName
from retort.variants import Frozen

SLACK = 1e-3
"""How far outside of its image a box may reach, as a share of the side: rounding errors of the tool that wrote it."""
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

Read = dict[str, tuple[Box, ...]]
"""The boxes of each picture in a file, by the pictures' names."""
Classes = Sequence[str]
Shape = TypeVar("Shape")


class Marked(Frozen):
    """A picture with its boxes."""

    image: ImageName
    width: int
    height: int
    boxes: tuple[Box, ...]


class Album(Frozen):
    """Pictures that go into one file."""

    classes: tuple[str, ...]
    pictures: tuple[Marked, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write pictures with boxes as a file, and to read them."""

    write: Callable[[Album], bytes]
    read: Callable[[bytes, Classes], Read]
    media_type: str
    suffix: str


class Foreign(BaseModel):
    """A part of another tool's file: what is not needed is not looked at, what is needed must be what it should be."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


def file_name(image: str) -> str:
    """Return the name of the file that reviewers see *image* in."""
    return f"{image}.jpg"


def image_of(name: str) -> str:
    """Return the picture that a file's name or address means, whatever folder it lies in there."""
    last = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = last.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in _SUFFIXES else last


def parse(data: bytes, shape: Any, what: str) -> Any:
    """Read JSON into *shape*.

    Raises:
        ReviewError: it is not JSON, or not of that shape; the message names the first place that is wrong.

    """
    try:
        return TypeAdapter(shape).validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "$"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ReviewError(
            f"no {what}: {place}: {first['msg']}{more}", hint=f"send what {what} export writes"
        ) from error


def box(name: str, corners: tuple[float, float, float, float], classes: Classes, place: str) -> Box:
    """Return a box from its *corners* as shares of the image's sides.

    Raises:
        ReviewError: its class is unknown, or it has no area, or lies outside of the image; the message names *place*.

    """
    if name not in classes:
        raise ReviewError(f"{place}: {name[:100]!r} is no class of this job", hint=f"its classes: {', '.join(classes)}")
    if not all(math.isfinite(value) and -SLACK <= value <= 1 + SLACK for value in corners):
        raise ReviewError(f"{place}: the box reaches out of its image", hint="keep boxes inside their images")
    x1, y1, x2, y2 = (round(min(1.0, max(0.0, value)), DIGITS) for value in corners)
    if x1 >= x2 or y1 >= y2:
        raise ReviewError(f"{place}: the box has no area", hint="remove it")
    return Box(name=name, x1=x1, y1=y1, x2=x2, y2=y2)


def add(found: dict[str, Shape], image: str, what: Shape, place: str) -> None:
    """Put *what* under the name of its image.

    Raises:
        ReviewError: the image was there before.

    """
    if image in found:
        raise ReviewError(f"{place}: the image {image[:100]} is there twice", hint="each image once")
    found[image] = what


def sized(width: float, height: float, place: str) -> tuple[float, float]:
    """Insist that an image has a size.

    Raises:
        ReviewError: it has none.

    """
    if not (width > 0 and height > 0 and math.isfinite(width) and math.isfinite(height)):
        raise ReviewError(f"{place}: an image of {width} x {height} pixels", hint="give its width and height")
    return width, height


def frozen(found: Mapping[str, Sequence[Box]]) -> Read:
    """Return the boxes by image, as they stay."""
    return {image: tuple(boxes) for image, boxes in found.items()}
