"""Read and write COCO JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from retort.review.formats import base
from retort.review.formats.base import (
    Classes,
    ExternalFile,
    ImageSet,
    ReadFile,
    ReadImage,
    box,
    file_name,
    parse,
    sized,
)
from retort.review.formats.names import image_of
from retort.review.models import Box, ReviewError


class _CocoImage(ExternalFile):
    id: int
    file_name: str
    width: float
    height: float
    extra: dict[str, Any] = Field(default_factory=dict)
    """Roboflow keeps the first name of a file here."""


class _Annotation(ExternalFile):
    image_id: int
    category_id: int
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]
    iscrowd: int = 0
    attributes: dict[str, Any] = Field(default_factory=dict)
    """CVAT says here by how much a box is turned."""


class _Category(ExternalFile):
    id: int
    name: str


class _Document(ExternalFile):
    images: list[_CocoImage]
    annotations: list[_Annotation]
    categories: list[_Category]


def write(image_set: ImageSet) -> bytes:
    """Return the image set as COCO."""
    numbers = {name: number for number, name in enumerate(image_set.classes, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(image_set.pictures, start=1):
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": file_name(picture.image), **size})
        for one in picture.boxes:
            corner = [one.x1 * picture.width, one.y1 * picture.height]
            bbox = [*corner, (one.x2 - one.x1) * picture.width, (one.y2 - one.y1) * picture.height]
            about = {"id": len(annotations) + 1, "image_id": number, "category_id": numbers[one.name]}
            annotations.append({**about, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0, "segmentation": []})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()


def read(data: bytes, classes: Classes) -> ReadFile:
    """Return the boxes in a COCO document, alone or in a zip.

    Raises:
        ReviewError: it is none, or does not fit *classes*.

    """
    found: dict[str, ReadImage] = {}
    for name, document in _documents(data):
        _read(document, classes, found, f"{name}: " if name else "")
    return ReadFile(found)


def _documents(data: bytes) -> list[tuple[str, bytes]]:
    if not base.is_zip(data):
        return [("", data)]
    files = {str(path): content for path, content in base.unpack(data, {".json"}).items()}
    instances = {name: content for name, content in files.items() if "instances_" in name}
    chosen = instances or {name: content for name, content in files.items() if b'"annotations"' in content}
    if not chosen:
        raise ReviewError("no COCO document in the archive", hint="send what the tool exports as COCO")
    return list(chosen.items())


def _read(data: bytes, classes: Classes, found: dict[str, ReadImage], where: str) -> None:
    document: _Document = parse(data, _Document, "COCO")
    names: dict[int, str] = {}
    for index, category in enumerate(document.categories):
        if names.setdefault(category.id, category.name) != category.name:
            place = f"{where}categories.{index}"
            raise ReviewError(f"{place}: the id {category.id} is there twice", hint="give each category its own id")
    pages: dict[int, tuple[_CocoImage, list[Box]]] = {}
    seen: set[str] = set()
    for index, image in enumerate(document.images):
        if image.id in pages:
            place = f"{where}images.{index}"
            raise ReviewError(f"{place}: the id {image.id} is there twice", hint="give each image its own id")
        if (name := image_of(image.file_name)) in found or name in seen:
            raise ReviewError(f"{where}images.{index}: {name[:100]} is there twice", hint="each image once")
        seen.add(name)
        pages[image.id] = image, []
    for index, annotation in enumerate(document.annotations):
        place = f"{where}annotations.{index}"
        if annotation.image_id not in pages:
            raise ReviewError(f"{place}: there is no image {annotation.image_id}", hint="list it among the images")
        if annotation.category_id not in names:
            raise ReviewError(f"{place}: there is no category {annotation.category_id}", hint="list it")
        image, boxes = pages[annotation.image_id]
        boxes.append(_box(annotation, image, names[annotation.category_id], classes, place))
    for index, (image, boxes) in enumerate(pages.values()):
        first = image.extra.get("name")
        names_of = (first,) if isinstance(first, str) else ()
        named = (image.file_name, *names_of)
        found[image_of(image.file_name)] = ReadImage(tuple(boxes), f"{where}images.{index}", names=named)


def _box(annotation: _Annotation, image: _CocoImage, name: str, classes: Classes, place: str) -> Box:
    if annotation.iscrowd:
        raise ReviewError(f"{place}: a crowd is no box", hint="draw a box for each object")
    if annotation.attributes.get("rotation"):
        raise ReviewError(f"{place}: the box is turned", hint="draw it upright")
    width, height = sized(image.width, image.height, place)
    x, y, wide, high = annotation.bbox
    return box(name, (x / width, y / height, (x + wide) / width, (y + high) / height), classes, place)
