"""Read and write Label Studio tasks (JSON)."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from pydantic import Field

from retort.review.formats.base import (
    Classes,
    ExternalFile,
    ImageSet,
    ReadFile,
    ReadImage,
    add,
    box,
    file_name,
    parse,
)
from retort.review.formats.names import image_of
from retort.review.models import Box, ReviewError

_HINT = "export as JSON, not as JSON-MIN or CSV"
RECTANGLES = "rectanglelabels"
OWN_NAME = "retort_image"
"""Field of a task's data with the picture's name: Label Studio renames files that it is given."""


_SHAPES = frozenset({
    "polygon", "polygonlabels", "ellipse", "ellipselabels", "keypoint", "keypointlabels", "brush", "brushlabels",
    "bitmask", "bitmasklabels", "vector", "vectorlabels", "magicwand", "rectangle3d", "videorectangle",
})  # fmt: skip
"""Results that are objects, but no rectangles."""


class _Value(ExternalFile):
    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0
    rectanglelabels: list[str] = Field(default_factory=list)
    labels: list[str] = Field(default_factory=list)


class _Result(ExternalFile):
    type: str
    id: str | int | None = None
    value: dict[str, Any] = Field(default_factory=dict)
    image_rotation: float | None = 0.0


class _Answer(ExternalFile):
    result: list[_Result]
    was_cancelled: bool = False


class _LabelStudioTask(ExternalFile):
    data: dict[str, Any]
    annotations: list[_Answer] = Field(default_factory=list)
    file_upload: str | None = None


def write(image_set: ImageSet) -> bytes:
    """Return *image_set* as Label Studio tasks.

    The boxes are predictions, from which an annotation begins.
    """
    tasks = []
    for number, picture in enumerate(image_set.pictures, start=1):
        common = {
            "from_name": "label", "to_name": "image", "type": RECTANGLES, "image_rotation": 0,
            "original_width": picture.width, "original_height": picture.height,
        }  # fmt: skip
        result = [{"id": f"b{index}", **common, "value": _value(one)} for index, one in enumerate(picture.boxes)]
        data = {"image": file_name(picture.image), OWN_NAME: picture.image}
        tasks.append({"id": number, "data": data, "predictions": [{"model_version": "teacher", "result": result}]})
    return json.dumps(tasks).encode()


def _value(one: Box) -> dict[str, Any]:
    sides = {"width": (one.x2 - one.x1) * 100, "height": (one.y2 - one.y1) * 100}
    return {"x": one.x1 * 100, "y": one.y1 * 100, **sides, "rotation": 0, RECTANGLES: [one.name]}


def read(data: bytes, classes: Classes) -> ReadFile:
    """Return the boxes in a list of Label Studio tasks.

    They are those of the last annotation that was not cancelled; a task without one was skipped, or never touched.

    Raises:
        ReviewError: it is none, or does not fit *classes*.

    """
    found: dict[str, ReadImage] = {}
    ignored = Counter[str]()
    tasks: list[_LabelStudioTask] = parse(data, list[_LabelStudioTask], "Label Studio", _HINT)
    for index, task in enumerate(tasks):
        answers = [answer for answer in task.annotations if not answer.was_cancelled]
        boxes = _boxes(answers[-1].result, classes, f"{index}.result", ignored) if answers else ()
        names = _names(task, index)
        image = names[0] if task.data.get(OWN_NAME) == names[0] else image_of(names[0])
        add(found, image, ReadImage(boxes, str(index), answered=bool(answers), names=names), str(index))
    return ReadFile(found, ignored)


def _names(task: _LabelStudioTask, index: int) -> tuple[str, ...]:
    """Return what the task's image may be called: our own name, its address, and the file that was uploaded."""
    wanted = (task.data.get(OWN_NAME), task.data.get("image"), task.file_upload)
    others = (value for key, value in task.data.items() if key not in {OWN_NAME, "image"})
    names = tuple(name for name in (*wanted, *others) if isinstance(name, str) and name)
    if not names:
        raise ReviewError(f"{index}.data names no image", hint=f"data: {{image: …}}, or {OWN_NAME}")
    return names


def _boxes(results: list[_Result], classes: Classes, place: str, ignored: Counter[str]) -> tuple[Box, ...]:
    """Return the rectangles; what else was answered is counted, and other shapes are refused."""
    labels = {result.id: result.value.get("labels") for result in results if result.type == "labels"}
    boxes = []
    for number, result in enumerate(results):
        here = f"{place}.{number}"
        if result.type in {RECTANGLES, "rectangle"}:
            boxes.append(_box(result, labels.get(result.id), classes, here))
        elif result.type in _SHAPES:
            raise ReviewError(f"{here}: {result.type} is no rectangle", hint="draw rectangles (rectanglelabels)")
        elif result.type != "labels":
            ignored[f"results of the type {result.type[:40]}"] += 1
    return tuple(boxes)


def _box(result: _Result, labels: Any, classes: Classes, place: str) -> Box:
    value: _Value = parse(json.dumps(result.value).encode(), _Value, f"Label Studio at {place}", _HINT)
    names = value.rectanglelabels or value.labels or (labels if isinstance(labels, list) else [])
    if len(names) != 1:
        raise ReviewError(f"{place}: the box has {len(names)} rectanglelabels", hint="give each box one label")
    if value.rotation or result.image_rotation:
        raise ReviewError(f"{place}: the box is turned", hint="draw it upright, on an image that is not turned")
    corners = (value.x, value.y, value.x + value.width, value.y + value.height)
    x1, y1, x2, y2 = (percent / 100 for percent in corners)
    return box(str(names[0]), (x1, y1, x2, y2), classes, place)
