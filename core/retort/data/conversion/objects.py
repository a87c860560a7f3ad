"""Hold annotated objects in pixels, and turn them into boxes as shares."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from retort.data.labels import LabelBox
from retort.errors import DataError
from retort.review.models import Corners

TOLD = {
    "crowd": "crowd regions are left out: they are no single objects",
    "outline": "polygons or masks without a box became the boxes around them",
    "turned": "turned boxes became the upright boxes around them",
    "empty": "boxes without area are left out",
    "outside": "boxes outside of their images are left out",
    "cut": "boxes that reach out of their images are cut at the edge",
    "difficult": "objects that are marked as difficult are kept: left out, they would be taught as background",
    "missing": "images are listed but not there, and are left out",
    "renamed": "annotation files name another image that is there too: they are of the one that they are called after",
    "unlisted": "images lie there without being listed, and are left out",
    "repeated": "images are listed twice: their boxes are joined",
    "resized": "images are of another size than their annotations say: boxes are taken as shares of the sides",
    "placeholder": "categories without objects are left out: they are the groups that Roboflow puts first",
}
"""What a note says of each kind of thing that was counted."""
_SLACK = 1e-6
"""Share of a side that a box may reach out without a word: rounding of floating point numbers."""


class PixelBox(NamedTuple):
    """An object in pixels, with the name of its class."""

    name: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class ImageAnnotations:
    """One image of an annotation file, with its objects."""

    name: str
    """Its file, as the annotations name it."""
    size: tuple[float, float] | None
    """Width and height in pixels, where the annotations know it."""
    objects: tuple[PixelBox, ...]
    place: str
    """Where it is said, for messages."""
    other_name: str = ""
    """A second name of its file, which counts where there is none by the first."""


@dataclass(frozen=True, slots=True)
class AnnotatedSplit:
    """Annotations of one split, before any image was looked for."""

    file: Path
    """The annotation file, or the folder of them."""
    classes: tuple[str, ...]
    images: tuple[ImageAnnotations, ...]
    counted: Counter[str]
    """How often each kind of ``TOLD`` was seen."""
    notes: tuple[str, ...] = ()


def shares(
    objects: Iterable[PixelBox], size: tuple[float, float], classes: Sequence[str], place: str
) -> list[LabelBox]:
    """Return *objects* as boxes in shares of an image of *size*, uncut.

    Raises:
        DataError: a coordinate is not finite.

    """
    width, height = size
    numbers = {name: number for number, name in enumerate(classes)}
    found = []
    for one in objects:
        corners = (one.left / width, one.top / height, one.right / width, one.bottom / height)
        if not all(map(math.isfinite, corners)):
            raise DataError(f"{place}: a coordinate of {one.name!r} is not finite", hint="draw the box anew")
        x1, y1, x2, y2 = corners
        found.append(LabelBox(numbers[one.name], (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
    return found


def cut(boxes: Iterable[LabelBox], counted: Counter[str]) -> list[LabelBox]:
    """Cut *boxes* at the edges of their image, and count changes."""
    kept = []
    for box in boxes:
        if box.width <= 0 or box.height <= 0:
            counted["empty"] += 1
            continue
        x1, x2 = box.centre_x - box.width / 2, box.centre_x + box.width / 2
        y1, y2 = box.centre_y - box.height / 2, box.centre_y + box.height / 2
        if min(x1, y1) >= -_SLACK and max(x2, y2) <= 1 + _SLACK:
            kept.append(box)
            continue
        x1, y1, x2, y2 = (min(1.0, max(0.0, side)) for side in (x1, y1, x2, y2))
        if x2 - x1 <= _SLACK or y2 - y1 <= _SLACK:
            counted["outside"] += 1
            continue
        counted["cut"] += 1
        kept.append(LabelBox(box.class_id, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
    return kept


def around(points: Sequence[tuple[float, float]]) -> Corners:
    """Return the corners of the upright box around *points*."""
    across, down = [x for x, _ in points], [y for _, y in points]
    return min(across), min(down), max(across), max(down)


def upright(corners: Corners, degrees: float) -> Corners:
    """Return the upright box around a box that is turned by *degrees*."""
    left, top, right, bottom = corners
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    angle = math.radians(degrees)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    half_width = ((right - left) * cos + (bottom - top) * sin) / 2
    half_height = ((right - left) * sin + (bottom - top) * cos) / 2
    return centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height
