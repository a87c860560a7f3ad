"""Define the document of a job's precision-recall curves and confusion matrices."""

from __future__ import annotations

from typing import Literal

from retort.schema import StoredModel

CURVES = "curves.json"
"""The name of the artifact."""


class ClassCurve(StoredModel):
    """How precise a class is found at each recall."""

    name: str
    """Of the class."""
    ap50: float
    """The area below the curve."""
    number: int
    """Labels of this class."""
    precision: tuple[float, ...]
    """At recalls of 0, 0.01, … 1."""


class ConfusionMatrix(StoredModel):
    """What was seen in the place of each label."""

    counts: tuple[tuple[int, ...], ...]
    """Rows: the classes, then all others together, then no label; columns: seen as them, then not seen at all."""


class NetworkCurves(StoredModel):
    """Curves and confusions of one network."""

    map50: float
    """The mean of the classes' areas."""
    mean: tuple[float, ...]
    """The mean precision of all classes that have labels, at recalls of 0, 0.01, … 1."""
    classes: tuple[ClassCurve, ...]
    """Those that are kept and have labels."""
    confusion: ConfusionMatrix
    """Among the classes that are kept."""
    letterbox: Literal["rectangle", "square", "shape"] = "rectangle"
    """Into what the images were fitted."""


class Curves(StoredModel):
    """Precision-recall curves and confusion matrices over all validation images."""

    classes: tuple[str, ...]
    """Those that are kept: all, or the 80 that the first network finds worst."""
    num_classes: int
    """Classes of the data."""
    num_images: int
    """Images that were looked at: the whole set."""
    iou: float
    """Overlap from which on a box covers a label."""
    score_from: float
    """Score from which on a box counts in the confusion matrix; the curves have all boxes."""
    networks: dict[str, NetworkCurves]
    """By role, or by title where networks alone were evaluated."""
