"""The closed sets of names that specs, metrics and reports share."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, get_args

FAMILIES = ("yolov8", "yolo11", "yolo12", "yolo26")
SIZES = ("n", "s", "m", "l", "x")

ModelName = Literal[
    "yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x",
    "yolo11n", "yolo11s", "yolo11m", "yolo11l", "yolo11x",
    "yolo12n", "yolo12s", "yolo12m", "yolo12l", "yolo12x",
    "yolo26n", "yolo26s", "yolo26m", "yolo26l", "yolo26x",
]  # fmt: skip
"""Detection architectures that can be taught and can teach."""

MODEL_NAMES: tuple[str, ...] = get_args(ModelName)
OFFICIAL_WEIGHTS = frozenset(f"{name}.pt" for name in MODEL_NAMES)
"""Published weight files that may be fetched by name."""


class Level(StrEnum):
    """Where features are tapped: the last backbone layer, or an input of the Detect head by its stride."""

    BACKBONE = "backbone"
    P3 = "P3"
    P4 = "P4"
    P5 = "P5"


HEAD_LEVELS = (Level.P3, Level.P4, Level.P5)
"""Detect head inputs in order: strides 8, 16 and 32."""


class Role(StrEnum):
    """Whose metric, checkpoint or artifact it is."""

    TEACHER = "teacher"
    STUDENT = "student"
    CONTROL = "control"
    """The undistilled twin of the student."""
    JOB = "job"
    """The run as a whole, for example its report."""


VALIDATION_BATCH = 16
"""Images of a batch in every validation: plain Ultralytics' default, on which the sizes of its rectangles depend."""

USUAL_DETECTIONS = 300
"""Detections of an image at most, for plain Ultralytics as for us; images with more objects raise it."""

MAP50 = "val/mAP50"
MAP = "val/mAP50-95"
