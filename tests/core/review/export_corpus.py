"""Answers of reviewers as CVAT and Label Studio export them, with the right boxes or the refusal of each."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Corners = tuple[str, float, float, float, float]
WIDTH, HEIGHT = 400, 200
WBC: Corners = ("WBC", 0.25, 0.25, 0.75, 0.5)
"""What most files of the corpus say."""


@dataclass(frozen=True)
class ExportCase:
    """One exported file, and what is expected of it."""

    name: str
    data: bytes
    boxes: tuple[Corners, ...] | None = (WBC,)
    """Of the image ``a``; None where nobody has answered about it."""
    told: str = ""
    """Part of the refusal; empty where the file is read."""


SHAPE = '<box label="WBC" source="manual" occluded="0" xtl="100.00" ytl="50.00" xbr="300.00" ybr="100.00" z_order="0"/>'
CVAT = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><job><id>4</id><labels><label><name>WBC</name></label></labels></job></meta>
  <image id="0" name="a.jpg" subset="default" width="400" height="200">
    {SHAPE}
  </image>
</annotations>
"""


def shaped(new: str) -> str:
    """Return an export with something else for its box."""
    return CVAT.replace(SHAPE, new)


def page(*changes: tuple[str, str]) -> str:
    """Return an export with parts of it replaced."""
    text = CVAT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def zipped(files: Mapping[str, str]) -> bytes:
    """Return a ZIP archive of *files*."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


ATTRIBUTE = '<attribute name="age">old</attribute>'
POINTS = 'label="WBC" occluded="0" points="1,1;9,1;9,9"'
CVAT_READ: dict[str, tuple[str | bytes, tuple[Corners, ...] | None]] = {
    "plain": (CVAT, (WBC,)),
    "of a task": (page(("<job>", "<task>"), ("</job>", "</task>")), (WBC,)),
    "zip": (zipped({"annotations.xml": CVAT, "images/a.jpg": "x"}), (WBC,)),
    "occluded": (page(('occluded="0"', 'occluded="1"')), (WBC,)),
    "turned by nothing": (page(("z_order", 'rotation="0.00" z_order')), (WBC,)),
    "attributes inside": (shaped(SHAPE.replace("/>", f">{ATTRIBUTE}</box>")), (WBC,)),
    "tag of the image": (shaped(f'<tag label="WBC" source="manual"></tag>{SHAPE}'), (WBC,)),
    "two boxes": (shaped(SHAPE + SHAPE.replace("300.00", "200.00")), (WBC, ("WBC", 0.25, 0.25, 0.5, 0.5))),
    "byte order mark": (CVAT.encode("utf-8-sig"), (WBC,)),
    "utf-16": (page(("utf-8", "utf-16")).encode("utf-16"), (WBC,)),
    "lines of Windows": (CVAT.replace("\n", "\r\n"), (WBC,)),
    "image in a folder": (page(("a.jpg", "review/a.jpg")), (WBC,)),
    "rounded over the side": (page(("300.00", "400.01")), (("WBC", 0.25, 0.25, 1.0, 0.5),)),
    "powers of ten": (page(("100.00", "1e2")), (WBC,)),
    "all removed": (shaped(""), ()),
}
CVAT_REFUSED: dict[str, tuple[str | bytes, str]] = {
    "turned": (page(("z_order", 'rotation="12.50" z_order')), "line 6: the box is turned"),
    "polygon": (shaped(f"<polygon {POINTS}/>"), "line 6: a polygon is no box"),
    "ellipse": (shaped('<ellipse label="WBC" cx="9" cy="9" rx="2" ry="2"/>'), "line 6: a ellipse is no box"),
    "mask": (shaped('<mask label="WBC" rle="3, 4" left="1" top="1" width="4" height="2"/>'), "line 6: a mask is no"),
    "video": (page(("<image", "<track"), ("</image>", "</track>")), "line 5: a track is no box"),
    "side missing": (page((' xtl="100.00"', "")), "line 6: a number of the box"),
    "text for a number": (page(("100.00", "left")), "line 6: a number of the box"),
    "not a number": (page(("100.00", "nan")), "line 6: the box reaches out"),
    "beyond the image": (page(("300.00", "500.00")), "line 6: the box reaches out"),
    "corners exchanged": (page(("300.00", "50.00")), "line 6: the box has no area"),
    "no size": (page((' width="400"', "")), "line 6: a number of the box"),
    "size of zero": (page(('width="400"', 'width="0"')), "line 6: an image of 0"),
    "another class": (page(('label="WBC"', 'label="Rock"')), "line 6: 'Rock' is no class"),
    "nearly the class": (page(('label="WBC"', 'label="wbc"')), "line 6: 'wbc' is no class"),
    "another image": (page(("a.jpg", "other.jpg")), "line 5: 'other' is no image of this review"),
    "an image twice": (shaped(f'{SHAPE}</image><image name="a.png" width="1" height="1">'), "line 6: the image a is"),
    "cut off": (CVAT[: CVAT.index("xbr")], "line 6"),
    "empty": ("", "line 1"),
    "document type": (page(("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>')), "line 2: a document"),
    "of VOC": ("<annotation><object/></annotation>", "line 1: the document is 'annotation'"),
}


def cvat() -> Iterator[ExportCase]:
    """CVAT for images 1.1."""
    yield from _cases(CVAT_READ, CVAT_REFUSED)


def rectangle(**changes: Any) -> dict[str, Any]:
    """Return a result as Label Studio writes it."""
    value = {"x": 25.0, "y": 25, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["WBC"]}
    return {
        "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "value": {**value, **changes},
        "id": "qJ1", "from_name": "label", "to_name": "image", "type": "rectanglelabels", "origin": "manual",
    }  # fmt: skip


def answer(*results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return an annotation."""
    return {"id": 7, "completed_by": 1, "result": list(results), "was_cancelled": False, "lead_time": 4.2, **changes}


def task(*answers: dict[str, Any], image: str = "/data/upload/3/1c1b3ac9-a.jpg", **changes: Any) -> dict[str, Any]:
    """Return a task, with a prediction that says the same as most answers."""
    predictions = [{"id": 3, "model_version": "teacher", "result": [rectangle()]}]
    return {
        "id": 1, "annotations": list(answers), "predictions": predictions, "drafts": [], "data": {"image": image},
        "file_upload": image.rpartition("/")[2], "meta": {}, "inner_id": 1, "project": 3, **changes,
    }  # fmt: skip


def exported(*tasks: dict[str, Any]) -> str:
    """Return an export, one line for each value."""
    return json.dumps(tasks, indent=1)


def drawn(**changes: Any) -> str:
    """Return an export with one rectangle."""
    return exported(task(answer(rectangle(**changes))))


def typed(kind: str, **value: Any) -> dict[str, Any]:
    """Return a result of another type."""
    return {**rectangle(), "type": kind, "value": value}


GOOD = rectangle()
PLAIN = {**rectangle(), "type": "rectangle"}
PLAIN["value"] = {key: value for key, value in PLAIN["value"].items() if key != "rectanglelabels"}
CHOICES, NOTE = typed("choices", choices=["sharp"]), typed("textarea", text=["two overlap"])
RELATION = {"from_id": "qJ1", "to_id": "zz9", "type": "relation", "direction": "right", "labels": ["touches"]}
WHOLE: Corners = ("WBC", 0.0, 0.0, 1.0, 1.0)
STUDIO_READ: dict[str, tuple[str | bytes, tuple[Corners, ...] | None]] = {
    "plain": (exported(task(answer(GOOD))), (WBC,)),
    "in one line": (json.dumps([task(answer(GOOD))]), (WBC,)),
    "byte order mark": (exported(task(answer(GOOD))).encode("utf-8-sig"), (WBC,)),
    "lines of Windows": (exported(task(answer(GOOD))).replace("\n", "\r\n"), (WBC,)),
    "choices": (exported(task(answer(CHOICES, GOOD))), (WBC,)),
    "text": (exported(task(answer(GOOD, NOTE))), (WBC,)),
    "relation": (exported(task(answer(GOOD, RELATION))), (WBC,)),
    "two tags": (exported(task(answer(PLAIN, typed("labels", labels=["WBC"])))), (WBC,)),
    "whole image": (drawn(x=0, y=0, width=100, height=100), (WHOLE,)),
    "rounded over the side": (drawn(x=-1e-13, y=0, width=100.00000001, height=100), (WHOLE,)),
    "many digits": (drawn(x=25.000000000000004, width=49.99999999999999), (WBC,)),
    "turned by nothing": (drawn(rotation=0.0), (WBC,)),
    "skipped": (exported(task(answer(was_cancelled=True))), None),
    "skipped with a box": (exported(task(answer(GOOD, was_cancelled=True))), None),
    "predictions alone": (exported(task()), None),
    "draft alone": (exported(task(drafts=[answer(GOOD)])), None),
    "the last answer": (exported(task(answer(rectangle(width=10)), answer(GOOD))), (WBC,)),
    "an answer before one was skipped": (exported(task(answer(GOOD), answer(was_cancelled=True))), (WBC,)),
    "ids of predictions": (exported(task(answer(GOOD), predictions=[3])), (WBC,)),
    "local file": (exported(task(answer(GOOD), image="/data/local-files/?d=review/a.jpg")), (WBC,)),
    "bucket": (exported(task(answer(GOOD), image="s3://bucket/review/a.jpg")), (WBC,)),
    "all removed": (exported(task(answer())), ()),
}
STUDIO_REFUSED: dict[str, tuple[str | bytes, str]] = {
    "turned": (drawn(rotation=15), "0.result.0: the box is turned"),
    "turned image": (exported(task(answer({**GOOD, "image_rotation": 90}))), "0.result.0: the box is turned"),
    "polygon": (exported(task(answer(typed("polygonlabels", points=[[1, 1]])))), "0.result.0: polygonlabels"),
    "brush": (exported(task(answer(GOOD, typed("brushlabels", rle=[1])))), "0.result.1: brushlabels"),
    "ellipse": (exported(task(answer(typed("ellipselabels", x=1)))), "0.result.0: ellipselabels"),
    "two classes": (drawn(rectanglelabels=["RBC", "WBC"]), "0.result.0: the box has 2"),
    "no class": (drawn(rectanglelabels=[]), "0.result.0: the box has 0"),
    "another class": (drawn(rectanglelabels=["Rock"]), "0.result.0: 'Rock' is no class"),
    "number as text": (drawn(x="25"), "at 0.result.0: x: "),
    "side missing": (exported(task(answer(typed("rectanglelabels", x=1, y=2, width=3)))), "at 0.result.0: height"),
    "pixels": (drawn(width=200), "0.result.0: the box reaches out"),
    "without area": (drawn(width=0), "0.result.0: the box has no area"),
    "negative width": (drawn(width=-10), "0.result.0: the box has no area"),
    "short form": (json.dumps([{"id": 1, "image": "a.jpg", "label": []}]), "0.data: Field required"),
    "no image": (exported(task(answer(GOOD), data={}, file_upload=None)), "0.data names no image"),
    "another image": (exported(task(answer(GOOD), image="other.jpg")), "0: 'other' is no image of this review"),
    "an image twice": (exported(task(answer(GOOD)), task(answer(GOOD), image="a.png")), "1: the image a is there"),
    "one task alone": (json.dumps(task(answer(GOOD))), "$: "),
    "lines of tasks": (f"{json.dumps([task()])}\n{json.dumps([task()])}", "line 2"),
    "cut off": (exported(task(answer(GOOD)))[:300], "line "),
    "empty": ("", "line 1"),
}


def label_studio() -> Iterator[ExportCase]:
    """Label Studio's JSON."""
    yield from _cases(STUDIO_READ, STUDIO_REFUSED)


def _cases(
    read: Mapping[str, tuple[str | bytes, tuple[Corners, ...] | None]], refused: Mapping[str, tuple[str | bytes, str]]
) -> Iterator[ExportCase]:
    for name, (data, boxes) in read.items():
        yield ExportCase(name, data.encode() if isinstance(data, str) else data, boxes)
    for name, (data, told) in refused.items():
        yield ExportCase(name, data.encode() if isinstance(data, str) else data, None, told)


GROUPS: dict[str, Callable[[], Iterator[ExportCase]]] = {"cvat": cvat, "label_studio": label_studio}
