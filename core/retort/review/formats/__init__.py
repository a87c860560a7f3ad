"""The forms in which labels go out to other tools and come back: one file each, read strictly."""

from __future__ import annotations

from retort.review.formats import coco, cvat, label_studio, yolo
from retort.review.formats.base import Album, Form, Marked

FORMS: dict[str, Form] = {
    "coco": Form(coco.write, coco.read, "application/json", ".json"),
    "yolo": Form(yolo.write, yolo.read, "application/zip", ".zip"),
    "cvat": Form(cvat.write, cvat.read, "application/xml", ".xml"),
    "label_studio": Form(label_studio.write, label_studio.read, "application/json", ".json"),
}
"""By name."""

__all__ = ["FORMS", "Album", "Form", "Marked"]
