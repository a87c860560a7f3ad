"""Read annotations in COCO JSON, of any size."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from retort.data.conversion import json_stream, masks
from retort.data.conversion.json_stream import Element
from retort.data.conversion.objects import AnnotatedSplit, ImageAnnotations, PixelBox, upright
from retort.data.description import is_name
from retort.errors import DataError
from retort.review.models import Corners

_NO_CROWD = (None, 0, "", "0", "0.0", "false", "False")
"""Some write their numbers as texts."""
KEYS = frozenset({"images", "annotations", "categories"})
"""Arrays that a COCO document of objects has."""


def read_coco(file: Path) -> AnnotatedSplit:
    """Read the COCO document *file*.

    Raises:
        DataError: it is none; the message names file, line and place.

    """
    reader = _CocoReader(file)
    for element in json_stream.elements(file):
        reader.take(element)
    return reader.split()


class _CocoReader:
    """Collects images, objects and categories, which may come in any order."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: set[str] = set()
        self._images: dict[Hashable, tuple[str, tuple[float, float] | None, int]] = {}
        self._names: dict[Hashable, str] = {}
        self._groups: dict[Hashable, str] = {}
        self._objects: list[tuple[Hashable, Hashable, Corners, str]] = []
        self._masks: list[tuple[Hashable, tuple[int, int], str]] = []
        """Size of each mask that a box was taken from."""
        self._counted = Counter[str]()

    def take(self, element: Element) -> None:
        if element.key not in KEYS:
            return
        self._seen.add(element.key)
        place = f"{self._file}:{element.line}: {element.key}[{element.position}]"
        if element.position is None or not isinstance(element.value, dict):
            _refuse(place, "is no object", f"{element.key} must be a list of objects")
        getattr(self, f"_{element.key}_element")(element.value, place, element.line)

    def _images_element(self, value: dict[str, Any], place: str, line: int) -> None:
        number, name = _id(value, "id", place), value.get("file_name")
        if not isinstance(name, str) or not name.strip():
            _refuse(place, "has no file_name", "name the image's file")
        if number in self._images:
            _refuse(place, f"the id {number!r} is there twice", "give each image an id of its own")
        sides = [value.get(side) or 0 for side in ("width", "height")]
        if not all(isinstance(side, int | float) and 0 <= side < 1 << 31 for side in sides):
            _refuse(place, "width and height must be numbers of pixels", "or leave them out")
        size = (float(sides[0]), float(sides[1])) if all(sides) else None
        self._images[number] = name, size, line

    def _categories_element(self, value: dict[str, Any], place: str, _: int) -> None:
        number, name = _id(value, "id", place), value.get("name")
        if not isinstance(name, str) or not name.strip():
            _refuse(place, "has no name", "name the category")
        if not is_name(name):
            _refuse(place, f"the name {name[:60]!r} is not a short printable text", "rename the category")
        if number in self._names:
            _refuse(place, f"the id {number!r} is there twice", "give each category an id of its own")
        if name.strip() in self._names.values():
            _refuse(place, f"a second category is named {name!r}", "give each a name of its own, or join the two")
        self._names[number] = name.strip()
        self._groups[number] = str(value.get("supercategory"))

    def _annotations_element(self, value: dict[str, Any], place: str, _: int) -> None:
        image, category = _id(value, "image_id", place), _id(value, "category_id", place)
        if value.get("iscrowd") not in _NO_CROWD:
            self._counted["crowd"] += 1
            return
        corners = self._corners(value, place)
        if corners is not None and (mask := masks.size_of_mask(value)) is not None:
            self._masks.append((image, mask, place))
        if corners is not None:
            self._objects.append((image, category, corners, place))

    def _corners(self, value: dict[str, Any], place: str) -> Corners | None:
        box, segmentation = value.get("bbox"), value.get("segmentation")
        if not box or (segmentation and box == [0] * 4):
            corners = masks.box_around(segmentation, place)
            self._counted["empty" if corners is None else "outline"] += 1
            return corners
        numbers = isinstance(box, list) and len(box) == 4 and all(_is_number(side) for side in box)
        if not numbers or min(box[2:]) < 0:
            _refuse(place, f"bbox is {str(box)[:60]}", "four numbers: left, top, width and height in pixels")
        left, top, width, height = map(float, box)
        corners = (left, top, left + width, top + height)
        if (degrees := _turn(value)) and width > 0 and height > 0:
            self._counted["turned"] += 1
            return upright(corners, degrees)
        return corners

    def split(self) -> AnnotatedSplit:
        """Join what was read."""
        if lacking := sorted(KEYS - self._seen - ({"annotations"} if self._images else set())):
            hint = "send COCO's instances: images, annotations and categories"
            raise DataError(f"{self._file} has no {', '.join(lacking)}", hint=hint)
        boxes: dict[Hashable, list[PixelBox]] = {number: [] for number in self._images}
        for image, category, corners, place in self._objects:
            if image not in boxes:
                _refuse(place, f"there is no image {image!r}", "list it among the images, or remove the annotation")
            if category not in self._names:
                _refuse(place, f"there is no category {category!r}", "list it among the categories")
            boxes[image].append(PixelBox(self._names[category], *corners))
        for image, mask, place in self._masks:
            size = self._images[image][1]
            if size is not None and size != mask:
                shown = f"the mask is of {mask[0]} x {mask[1]} pixels, the image of {size[0]:g} x {size[1]:g}"
                _refuse(place, shown, "draw the mask on the image itself, or give a bbox")
        images = tuple(
            ImageAnnotations(name, size, tuple(boxes[number]), f"{self._file}:{line}")
            for number, (name, size, line) in self._images.items()
        )
        return AnnotatedSplit(self._file, self._classes(), images, self._counted)

    def _classes(self) -> tuple[str, ...]:
        """Return the classes in the order of their ids, without the group that Roboflow puts first."""
        used = {category for _, category, _, _ in self._objects}
        ordered = sorted(self._names, key=lambda number: (isinstance(number, str), number))
        first = ordered[0] if ordered else None
        others = {group for number, group in self._groups.items() if number != first}
        if first not in used and self._groups.get(first) == "none" and others == {self._names.get(first)}:
            self._counted["placeholder"] += 1
            ordered = ordered[1:]
        return tuple(self._names[number] for number in ordered)


def _id(value: dict[str, Any], key: str, place: str) -> int | str:
    found = value.get(key)
    if isinstance(found, float) and found.is_integer():
        return int(found)  # a table with gaps makes all its numbers so
    if isinstance(found, bool) or not isinstance(found, int | str):
        _refuse(place, f"{key} is {str(found)[:60]}", f"{key} must be a whole number or a text")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _turn(value: dict[str, Any]) -> float:
    """Return by how many degrees a box is turned: CVAT writes it among the attributes."""
    attributes = value.get("attributes")
    turned = attributes.get("rotation", 0) if isinstance(attributes, dict) else 0
    try:
        degrees = float(turned) % 360
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return degrees if math.isfinite(degrees) else 0.0


def _refuse(place: str, message: str, hint: str) -> NoReturn:
    raise DataError(f"{place}: {message}", hint=hint)


def classes_of(splits: Sequence[AnnotatedSplit]) -> tuple[str, ...]:
    """Return the classes of all *splits*, those of the first first."""
    return tuple(dict.fromkeys(name for split in splits for name in split.classes))
