"""Read and write COCO JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from retort.review.formats.base import (
    Classes,
    ExternalFile,
    ImageSet,
    Read,
    add,
    box,
    file_name,
    frozen,
    image_of,
    parse,
    sized,
)
from retort.review.models import Box, ReviewError


class _CocoImage(ExternalFile):
    id: int
    file_name: str
    width: float
    height: float


class _Annotation(ExternalFile):
    image_id: int
    category_id: int
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]
    iscrowd: int = 0


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


def read(data: bytes, classes: Classes) -> Read:
    """Return the boxes in a COCO document.

    Raises:
        ReviewError: it is none, or does not fit *classes*.

    """
    document: _Document = parse(data, _Document, "COCO")
    names = {category.id: category.name for category in document.categories}
    found: dict[str, list[Box]] = {}
    pages: dict[int, tuple[_CocoImage, list[Box]]] = {}
    for index, image in enumerate(document.images):
        boxes: list[Box] = []
        add(found, image_of(image.file_name), boxes, f"images.{index}")
        if image.id in pages:
            raise ReviewError(f"images.{index}: the id {image.id} is there twice", hint="give each image its own id")
        pages[image.id] = image, boxes
    for index, annotation in enumerate(document.annotations):
        place = f"annotations.{index}"
        if annotation.image_id not in pages:
            raise ReviewError(f"{place}: there is no image {annotation.image_id}", hint="list it among the images")
        if annotation.category_id not in names:
            raise ReviewError(f"{place}: there is no category {annotation.category_id}", hint="list it")
        if annotation.iscrowd:
            raise ReviewError(f"{place}: a crowd is no box", hint="draw a box for each object")
        image, boxes = pages[annotation.image_id]
        width, height = sized(image.width, image.height, place)
        x, y, wide, high = annotation.bbox
        corners = (x / width, y / height, (x + wide) / width, (y + high) / height)
        boxes.append(box(names[annotation.category_id], corners, classes, place))
    return frozen(found)
