"""Read label files in YOLO layout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from retort.data.description import DatasetDescription
from retort.errors import DataError

_LARGEST_BYTES = 16 << 20
_SLACK = 1e-3
"""How far outside 0..1 a coordinate may lie: rounding errors of the tool that wrote it."""
LINE = "class centre_x centre_y width height, the last four as shares (0..1) of the image's sides"
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
    problems: tuple[tuple[int, str], ...]


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


def check_labels(description: DatasetDescription, splits: Mapping[str, Sequence[tuple[Path, Path]]]) -> None:
    """Check the label of every (image, label) pair.

    An image without a label file is background.

    Raises:
        DataError: a line is malformed (the first is shown with file and line), or a split has no box at all.

    """
    for split, pairs in splits.items():
        if not pairs:
            continue
        boxes = sum(_count(label, len(description.names), description.root) for _, label in pairs)
        if boxes == 0:
            looked = pairs[0][1].parent
            raise DataError(
                f"{description.file}: no box in any label of {split}; labels were looked for in {looked}",
                hint="an image images/x.jpg has its boxes in labels/x.txt",
            )


def _count(label: Path, num_classes: int, root: Path) -> int:
    """Return how many boxes *label* holds."""
    content = read_labels(label, num_classes, root)
    if content.problems:
        number, problem = content.problems[0]
        more = f" (and {len(content.problems) - 1} more in this file)" if len(content.problems) > 1 else ""
        raise DataError(f"{label.relative_to(root)}:{number}: {problem}{more}", hint=f"each line: {LINE}")
    return len(content.boxes)


def read_labels(label: Path, num_classes: int, root: Path) -> LabelFile:
    """Read the label file *label* of a dataset at *root*.

    The file need not exist.

    Raises:
        DataError: it leads out of *root*, or is no text file of a likely size.

    """
    if not label.is_file():
        return LabelFile((), ())
    shown = label.relative_to(root)
    if not label.resolve().is_relative_to(root):
        raise DataError(f"{shown} leads out of the dataset's folder", hint="copy the label into the dataset")
    if label.stat().st_size > _LARGEST_BYTES:
        raise DataError(f"{shown} is larger than {_LARGEST_BYTES >> 20} MiB", hint="one line a box is expected")
    try:
        text = label.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is not a text file", hint=f"each line: {LINE}") from error
    boxes, problems = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if columns and (problem := _problem(columns, num_classes)):
            problems.append((number, problem))
        elif columns:
            class_id, *box = map(float, columns)
            boxes.append(LabelBox(int(class_id), *box))
    return LabelFile(tuple(boxes), tuple(problems))


def _problem(columns: list[str], num_classes: int) -> str | None:
    if len(columns) != 5:
        polygon = "; this looks like a polygon, and boxes are needed" if len(columns) >= 7 else ""
        return f"{len(columns)} columns where 5 are expected{polygon}"
    try:
        values = [float(column) for column in columns]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        return f"not every column is a finite number: {' '.join(columns)}"
    class_id, *box = values
    if not class_id.is_integer() or not 0 <= class_id < num_classes:
        return f"class {columns[0]} is not one of 0 to {num_classes - 1}"
    if not all(-_SLACK <= value <= 1 + _SLACK for value in box):
        return f"a coordinate is outside 0..1: {' '.join(columns[1:])}"
    return "the box has no area; remove the line" if min(box[2:]) <= 0 else None
