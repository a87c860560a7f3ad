"""The closed sets of names that specs, metrics and reports share."""

from __future__ import annotations

from enum import StrEnum

FAMILIES = ("yolov8", "yolo11", "yolo12", "yolo26")
SIZES = ("n", "s", "m", "l", "x")

_SCALED = {
    "yolov5": ("", "-p6"),
    "yolov6": ("",),
    "yolov8": ("", "-p2", "-p6", "-ghost", "-ghost-p2", "-ghost-p6"),
    "yolo11": ("",),
    "yolo12": ("",),
    "yolo26": ("", "-p2", "-p6"),
}
"""Families of five sizes, with the forms of each."""
_SINGLE = (
    "yolov3", "yolov3-spp", "yolov3-tiny",
    *(f"yolov9{size}" for size in "tsmce"),
    *(f"yolov10{size}" for size in "nsmblx"),
)  # fmt: skip

USUAL_MODELS = tuple(f"{family}{size}" for family in FAMILIES for size in SIZES)
"""Architectures that most people take."""
MODEL_NAMES = (
    *USUAL_MODELS,
    *(f"{family}{size}{form}" for family, forms in _SCALED.items() for form in forms for size in SIZES
      if f"{family}{size}{form}" not in USUAL_MODELS),
    *_SINGLE,
)  # fmt: skip
"""Detection architectures of the pinned Ultralytics that can be taught and can teach."""
MODEL_PATTERN = (
    r"yolov3(-spp|-tiny)?|yolov5[nsmlx](-p6)?|yolov6[nsmlx]|yolov8[nsmlx](-ghost)?(-p2|-p6)?|yolov9[tsmce]|"
    r"yolov10[nsmblx]|yolo1[12][nsmlx]|yolo26[nsmlx](-p2|-p6)?"
)
"""The same as a regular expression, for schemas."""
NMS_FREE = ("yolov10", "yolo26")
"""How those begin that have a head whose boxes need no NMS."""


def _published(model: str) -> str | None:
    """Name the weights that Ultralytics publishes for *model*; None where there are none."""
    family, _, form = model.partition("-")
    if model.startswith("yolov3"):
        return f"{model}u.pt"
    if model.startswith("yolov5"):
        return f"{family}{'6' if form else ''}u.pt"
    return None if form or model.startswith("yolov6") else f"{model}.pt"


PUBLISHED_WEIGHTS = {model: found for model in MODEL_NAMES if (found := _published(model)) is not None}
"""Weight files that may be fetched by name, by the architecture that they hold."""
WEIGHTS_SUFFIXES = (".pt", ".safetensors", ".onnx")
"""How files of weights end."""
OFFICIAL_WEIGHTS = frozenset(PUBLISHED_WEIGHTS.values())
"""The files alone."""


class Level(StrEnum):
    """Where features are tapped: the last backbone layer, or an input of the Detect head by its stride."""

    BACKBONE = "backbone"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"
    P5 = "P5"
    P6 = "P6"


LEVEL_STRIDES = {Level.P2: 4, Level.P3: 8, Level.P4: 16, Level.P5: 32, Level.P6: 64}
"""Strides of the inputs that a Detect head may have, from fine to coarse."""
HEAD_LEVELS = (Level.P3, Level.P4, Level.P5)
"""Detect head inputs of most networks in order: strides 8, 16 and 32."""


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

HEATMAPS = "heatmaps/"
"""How the names of artifacts begin that show where student and teacher differ, one sheet of maps for an epoch."""

MAP50 = "val/mAP50"
MAP = "val/mAP50-95"

PSEUDO_LABELLED = "pseudo-labelled.txt"
"""In the folder of a training's data: the names of its pseudo-labelled images, without their endings."""
