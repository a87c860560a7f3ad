"""Read and write YOLO labels (zip of text files)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import yaml

from retort.class_names import as_names
from retort.review.formats import base
from retort.review.formats.base import Classes, ImageSet, Read, add, box
from retort.review.models import Box, ReviewError

_NAMES = {"data.yaml", "data.yml", "classes.txt", "obj.names"}
_LISTS = {"train.txt", "val.txt", "test.txt", "images.txt", "readme.txt"}
_LONGEST_BYTES = 256 << 10
"""Of a description: reading YAML takes its time."""
_LINE = "each line: class centre_x centre_y width height, the last four as shares (0..1) of the image's sides"


def write(image_set: ImageSet) -> bytes:
    """Return *image_set* as a zip of label files."""
    numbers = {name: number for number, name in enumerate(image_set.classes)}
    description = yaml.safe_dump({"names": list(image_set.classes)}, sort_keys=False, allow_unicode=True)
    files = {"data.yaml": description.encode()}
    for picture in image_set.pictures:
        lines = (f"{numbers[one.name]} {_shares(one)}\n" for one in picture.boxes)
        files[f"labels/{picture.image}.txt"] = "".join(lines).encode()
    return base.pack(files)


def _shares(one: Box) -> str:
    centre = f"{(one.x1 + one.x2) / 2:.7f} {(one.y1 + one.y2) / 2:.7f}"
    return f"{centre} {one.x2 - one.x1:.6f} {one.y2 - one.y1:.6f}"


def read(data: bytes, classes: Classes) -> Read:
    """Return the boxes in a zip of label files.

    Without names in the zip, classes are numbered as the job's are.

    Raises:
        ReviewError: it is none, or does not fit *classes*.

    """
    files = base.unpack(data, {".txt", ".yaml", ".yml", ".names"})
    names = _names(files) or classes
    found: Read = {}
    for path, content in files.items():
        if path.suffix == ".txt" and path.name.lower() not in _NAMES | _LISTS:
            add(found, path.stem, _boxes(str(path), _text(path, content), names, classes), str(path))
    if not found:
        raise ReviewError("no label files in the archive", hint="labels/<image>.txt")
    return found


def _boxes(file: str, text: str, names: Sequence[str], classes: Classes) -> tuple[Box, ...]:
    boxes = []
    for number, line in enumerate(text.splitlines(), start=1):
        columns, place = line.split(), f"{file}:{number}"
        if not columns:
            continue
        try:
            index, x, y, width, height = (float(column) for column in columns)
            name = names[int(index)] if index.is_integer() and index >= 0 else None
        except (ValueError, IndexError, OverflowError) as error:
            raise ReviewError(f"{place}: no box of a known class: {line[:100]}", hint=_LINE) from error
        if name is None:
            raise ReviewError(f"{place}: {columns[0]} is no number of a class", hint=_LINE)
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        boxes.append(box(name, corners, classes, place))
    return tuple(boxes)


def _names(files: dict[PurePosixPath, bytes]) -> list[str] | None:
    """Return the class names that the archive gives, in order."""
    for path, content in files.items():
        if path.name.lower() in _NAMES and path.suffix in {".yaml", ".yml"}:
            return _described(path, content)
        if path.name.lower() in _NAMES:
            return [line.strip() for line in _text(path, content).splitlines() if line.strip()]
    return None


def _described(path: PurePosixPath, content: bytes) -> list[str] | None:
    if len(content) > _LONGEST_BYTES:
        raise ReviewError(f"{path} is larger than {_LONGEST_BYTES >> 10} KiB", hint="names: [first, second]")
    try:
        found = yaml.safe_load(_text(path, content))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ReviewError(f"{path} is not readable as YAML", hint="names: [first, second]") from error
    names = found.get("names") if isinstance(found, dict) else None
    if names is None:
        return None
    numbered = as_names(names)
    if list(numbered) != list(range(len(names))):
        raise ReviewError(f"{path}: names must list the classes", hint="names: [first, second]")
    return list(numbered.values())


def _text(path: PurePosixPath, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReviewError(f"{path} is not a text file", hint=_LINE) from error
