"""Read and write Label Studio tasks (JSON)."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from retort.review.formats.base import Classes, ExternalFile, ImageSet, Read, add, box, file_name, image_of, parse
from retort.review.models import Box, ReviewError

RECTANGLES = "rectanglelabels"
OWN_NAME = "retort_image"
"""Field of a task's data with the picture's name: Label Studio renames files that it is given."""


class _Value(ExternalFile):
    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0
    rectanglelabels: Annotated[list[str], Field(min_length=1, max_length=1)]


class _Result(ExternalFile):
    type: str
    value: dict[str, Any]


class _Answer(ExternalFile):
    result: list[_Result]
    was_cancelled: bool = False


class _LabelStudioTask(ExternalFile):
    data: dict[str, Any]
    annotations: list[_Answer] = Field(default_factory=list)
    predictions: list[_Answer] = Field(default_factory=list)


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


def read(data: bytes, classes: Classes) -> Read:
    """Return the boxes in a list of Label Studio tasks.

    They are those of the last annotation that was not cancelled, or else the predicted ones.

    Raises:
        ReviewError: it is none, or does not fit *classes*.

    """
    found: Read = {}
    tasks: list[_LabelStudioTask] = parse(data, list[_LabelStudioTask], "Label Studio")
    for index, task in enumerate(tasks):
        answers = [answer for answer in task.annotations if not answer.was_cancelled] or task.predictions
        results = answers[-1].result if answers else []
        boxes = tuple(
            _box(result, classes, f"{index}.result.{number}") for number, result in enumerate(results)
        )  # fmt: skip
        add(found, _image(task, index), boxes, str(index))
    return found


def _image(task: _LabelStudioTask, index: int) -> str:
    own, file = task.data.get(OWN_NAME), task.data.get("image")
    if isinstance(own, str):
        return own
    if isinstance(file, str):
        return image_of(file)
    raise ReviewError(f"{index}.data names no image", hint=f"data: {{image: …}}, or {OWN_NAME}")


def _box(result: _Result, classes: Classes, place: str) -> Box:
    if result.type != RECTANGLES:
        raise ReviewError(f"{place}: {result.type[:100]} is no rectangle", hint="use rectanglelabels")
    value: _Value = parse(json.dumps(result.value).encode(), _Value, "Label Studio")
    if value.rotation:
        raise ReviewError(f"{place}: the box is turned", hint="draw it upright")
    corners = (value.x, value.y, value.x + value.width, value.y + value.height)
    x1, y1, x2, y2 = (percent / 100 for percent in corners)
    return box(value.rectanglelabels[0], (x1, y1, x2, y2), classes, place)
