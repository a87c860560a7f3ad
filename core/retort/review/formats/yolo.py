"""Read and write YOLO labels (zip of text files)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import yaml

from retort.class_names import as_names
from retort.documents import LineLimits, lines_of, parse_document
from retort.errors import DataError, SpecError
from retort.review.formats import base
from retort.review.formats.base import Classes, ImageSet, ReadFile, add, box, read_file
from retort.review.models import Box, Corners, ReviewError

_NAMES = {"data.yaml", "data.yml", "classes.txt", "obj.names"}
_ABOUT = re.compile(r"^(readme|license|licence|notes)\b", re.IGNORECASE)
"""Texts that Roboflow and others put beside labels."""
_LISTED = re.compile(r"\.(jpe?g|png|bmp|tiff?|webp|gif|avif|heic|jp2)\s*$", re.IGNORECASE)
_LONGEST_BYTES = 256 << 10
"""Of a description: reading YAML takes its time."""
_LIMITS = LineLimits(most_lines=100_000, longest=1 << 20)
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


def read(data: bytes, classes: Classes) -> ReadFile:
    """Return the boxes in a zip of label files.

    Without names in the zip, classes are numbered as the job's are.

    Raises:
        ReviewError: it is none, or does not fit *classes*.

    """
    if not base.is_zip(data):
        raise ReviewError("not a zip archive", hint="send the zip of labels that the tool exports as YOLO")
    files = base.unpack(data, {".txt", ".yaml", ".yml", ".names"})
    base.check_number(sum(content.count(b"\n") for content in files.values()))
    names = _names(files) or classes
    found: dict[str, tuple[Box, ...]] = {}
    places: dict[str, str] = {}
    outlines = 0
    for path, content in files.items():
        if path.suffix.lower() == ".txt" and path.name.lower() not in _NAMES:
            text = _text(path, content)
            if not _lists_images(text) and not _is_prose(path, text):
                boxes, polygons = _boxes(str(path), text, names, classes)
                outlines += polygons
                add(found, path.stem, boxes, str(path))
                places[path.stem] = str(path)
    if not found:
        raise ReviewError("no label files in the archive", hint="labels/<image>.txt")
    ignored = {"polygons, of which the boxes around them are taken": outlines} if outlines else {}
    return read_file(found, places, ignored)


def _is_prose(path: PurePosixPath, text: str) -> bool:
    """Return True for a text about the data; a label may have such a name too."""
    columns = text.split()
    return bool(_ABOUT.match(path.name)) and not (columns and all(map(_is_number, columns)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _lists_images(text: str) -> bool:
    """Return True for a list of images, as CVAT writes for each subset."""
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and all(_LISTED.search(line) for line in lines)


def _boxes(file: str, text: str, names: Sequence[str], classes: Classes) -> tuple[tuple[Box, ...], int]:
    """Return the boxes in a label file, and how many of them are drawn around polygons."""
    boxes, polygons = [], 0
    for number, line in enumerate(text.splitlines(), start=1):
        columns, place = line.split(), f"{file}:{number}"
        if not columns:
            continue
        try:
            index, *numbers = (float(column) for column in columns)
            name = names[int(index)] if index.is_integer() and index >= 0 else None
        except (ValueError, IndexError, OverflowError) as error:
            raise ReviewError(f"{place}: no box of a known class: {line[:100]}", hint=_LINE) from error
        if name is None:
            raise ReviewError(f"{place}: {columns[0]} is no number of a class", hint=_LINE)
        corners = _corners(numbers)
        if corners is None:
            raise ReviewError(f"{place}: {len(columns)} columns where 5 are expected", hint=_LINE)
        polygons += len(numbers) > 4
        boxes.append(box(name, corners, classes, place))
    return tuple(boxes), polygons


def _corners(numbers: Sequence[float]) -> Corners | None:
    """Return the corners of a box, or of the box around a polygon."""
    if len(numbers) == 4:
        x, y, width, height = numbers
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        across, down = numbers[::2], numbers[1::2]
        return min(across), min(down), max(across), max(down)
    return None


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
        found = parse_document(_text(path, content))
    except SpecError as error:
        raise ReviewError(f"{path}: {error.problems[0].message}", hint="names: [first, second]") from error
    names = found.get("names") if isinstance(found, dict) else None
    if names is None:
        return None
    numbered = as_names(names)
    if list(numbered) != list(range(len(names))):
        raise ReviewError(f"{path}: names must list the classes", hint="names: [first, second]")
    return list(numbered.values())


def _text(path: PurePosixPath, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
        lines_of(text, str(path), _LIMITS)
    except UnicodeDecodeError as error:
        raise ReviewError(f"{path} is not a text file", hint=_LINE) from error
    except DataError as error:
        raise ReviewError(error.message, hint=_LINE) from error
    return text
