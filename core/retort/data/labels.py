"""Read label files in YOLO layout, as Ultralytics reads them."""

from __future__ import annotations

import codecs
import hashlib
import math
import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from retort.data.text_files import decoded, read_bytes
from retort.data.verification import data_changed
from retort.documents import LineLimits, lines_of
from retort.errors import DataError

_LARGEST_BYTES = 16 << 20
LIMITS = LineLimits(most_lines=100_000, longest=1 << 20)
"""Of one label file: photographs of crowds have some ten thousand boxes, and outlines some thousand points."""
_SLACK = 0.01
"""How far outside 0..1 a coordinate may lie, as upstream allows: rounding errors of the tool that wrote it."""
_FEWEST_POINTS = 3
LINE = "class centre_x centre_y width height between spaces, the last four as shares (0..1) of the image's sides"
"""What a label file's lines must hold."""


class LabelBox(NamedTuple):
    """A labelled object: class, and box as shares of image sides."""

    class_id: int
    centre_x: float
    centre_y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Boxes of a label file, and its invalid lines with their numbers."""

    boxes: tuple[LabelBox, ...]
    """Each once: upstream removes equal ones too."""
    problems: tuple[tuple[int, str], ...]
    num_doubled: int = 0
    """Lines that say the same as an earlier one."""
    num_polygons: int = 0
    """Boxes around polygons."""
    recoded: bool = False
    """Whether it is in UTF-16, which upstream does not read."""

    def merged(self) -> LabelFile:
        """Return the boxes as those of one class, each once."""
        boxes = dict.fromkeys(box._replace(class_id=0) for box in self.boxes)
        return replace(self, boxes=tuple(boxes))

    def lines(self) -> str:
        """Return the boxes as upstream reads them, in UTF-8."""
        return "".join(f"{box.class_id} {' '.join(map(repr, box[1:]))}\n" for box in self.boxes)


NO_LABEL = LabelFile((), ())


def label_of(root: Path, image: Path) -> Path:
    """Return the path of the label file of *image*.

    It has ``labels`` for the last folder ``images``, and ``.txt`` at the end; the file need not exist. Only folders
    below *root* count, so that a dataset kept in a folder named ``images`` means the same.
    """
    parts = list(image.relative_to(root).with_suffix(".txt").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return root.joinpath(*parts)


def shared_labels(root: Path, images: Iterable[Path]) -> dict[Path, list[Path]]:
    """Return the label files that belong to several *images* each.

    Such images have names that differ in the ending alone.
    """
    owners: defaultdict[Path, list[Path]] = defaultdict(list)
    for image in images:
        owners[label_of(root, image)].append(image)
    return {label: mine for label, mine in owners.items() if len(mine) > 1 and label.is_file()}


def read_labels(label: Path, num_classes: int, root: Path) -> LabelFile:
    """Read the label file *label* of a dataset at *root*.

    The file need not exist.

    Raises:
        DataError: it leads out of *root*, or is no text file of a likely size.

    """
    if not label.is_file():
        return NO_LABEL
    shown = label.relative_to(root).as_posix()
    if not label.resolve().is_relative_to(root):
        raise DataError(f"{shown} leads out of the dataset's folder", hint="copy the label into the dataset")
    data = read_bytes(label, shown, most_bytes=_LARGEST_BYTES)
    return parse_labels(decoded(data, shown), num_classes, shown, recoded=not _is_utf8(data))


def parse_labels(text: str, num_classes: int, shown: str = "the label", *, recoded: bool = False) -> LabelFile:
    """Return what the lines of a label file say.

    A line is a box or a polygon, which becomes the box around it. Messages name the file as *shown*.

    Raises:
        DataError: it has too many lines, or too long ones.

    """
    boxes: dict[bytes, LabelBox] = {}
    problems, num_lines, num_polygons = [], 0, 0
    for number, line in enumerate(lines_of(text, shown, LIMITS), start=1):
        columns = line.split()
        if not columns:
            continue
        found = _line(columns, num_classes)
        if isinstance(found, str):
            problems.append((number, found))
            continue
        num_lines += 1
        num_polygons += len(columns) > 5
        boxes.setdefault(struct.pack("<5f", *found), found)  # upstream compares in float32
    return LabelFile(tuple(boxes.values()), tuple(problems), num_lines - len(boxes), num_polygons, recoded)


def copy_labels(label: Path, target: Path, digest: str, num_classes: int, *, merge: bool = False) -> None:
    """Copy a label file that intake has read, as upstream reads it.

    Polygons are written as boxes. With *merge* all classes are one.

    Raises:
        DataChanged: it has another *digest* by now.

    """
    try:
        data = label.read_bytes()
    except FileNotFoundError as error:
        raise data_changed([str(label)]) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise data_changed([str(label)])
    content = parse_labels(decoded(data, label.name), num_classes)
    if merge:
        target.write_bytes(content.merged().lines().encode())
        return
    plain = not content.num_polygons and _is_utf8(data)
    target.write_bytes(data if plain else content.lines().encode())


def _is_utf8(data: bytes) -> bool:
    return not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" not in data


def _line(columns: list[str], num_classes: int) -> LabelBox | str:
    """Return the box of a line, or what is wrong with it."""
    polygon = len(columns) > 2 * _FEWEST_POINTS and len(columns) % 2 == 1
    if len(columns) != 5 and not polygon:
        scored = "; is the last one a score? labels have none" if len(columns) == 6 else ""
        return f"{len(columns)} columns where 5 are expected{scored}"
    try:
        values = [float(column) for column in columns]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        return f"not every column is a finite number: {' '.join(columns)[:200]}"
    class_id, *box = values
    if not class_id.is_integer() or not 0 <= class_id < num_classes:
        return f"class {columns[0]} is not one of 0 to {num_classes - 1}"
    box = list(_around(box)) if polygon else box
    if not all(-_SLACK <= value <= 1 + _SLACK for value in box):
        return f"a coordinate is outside 0..1: {' '.join(columns[1:])[:200]}"
    if min(box[2:]) <= 0:
        return "the box has no area; remove the line"
    return LabelBox(int(class_id), *box)


def _around(points: list[float]) -> Iterable[float]:
    """Return centre and size of the box around a polygon, which is x and y of each point in turn."""
    xs, ys = points[::2], points[1::2]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)
