"""Define the document of a job's mistakes on its validation images."""

from __future__ import annotations

from typing import Literal

from retort.schema import StoredModel

MISTAKES = "mistakes.json"
"""The name of the artifact."""
Outcome = Literal["found", "wrong", "missed"]


class OutcomeCounts(StoredModel):
    """How many boxes were found, are wrong, or were missed."""

    found: int = 0
    """Labels that a box of the same class covers."""
    wrong: int = 0
    """Boxes without such a label: false positives."""
    missed: int = 0
    """Labels without such a box: false negatives."""


class Confusion(StoredModel):
    """Wrong boxes of one class on missed labels of another."""

    label: str
    """The class that is there."""
    seen: str
    """The class that was seen."""
    number: int
    """How often."""


class NetworkMistakes(StoredModel):
    """The mistakes of one network on all images."""

    total: OutcomeCounts
    """Of all classes."""
    per_class: dict[str, OutcomeCounts]
    """By class."""
    by_size: dict[str, OutcomeCounts]
    """By size of the box: small, medium and large, as COCO divides them."""
    confusions: tuple[Confusion, ...]
    """The most frequent first."""


class MarkedBox(StoredModel):
    """A box on an image, with its outcome; corners are shares of the sides."""

    outcome: Outcome
    """Whether it was found, is wrong, or was missed."""
    name: str
    """Of its class."""
    size: str
    """Small, medium or large."""
    score: float | None
    """Null for a label that was missed."""
    x1: float
    """Left."""
    y1: float
    """Upper."""
    x2: float
    """Right."""
    y2: float
    """Lower."""


class MistakenImage(StoredModel):
    """An image on which the network is wrong."""

    file: str
    """Its name."""
    width: int
    """Of the copy, in pixels."""
    height: int
    """Of the copy, in pixels."""
    cost: float
    """Labels missed, and scores of the wrong boxes, summed up."""
    boxes: tuple[MarkedBox, ...]
    """The network's, and the labels that it missed."""
    networks: dict[str, OutcomeCounts]
    """Of each network on this image."""
    jpeg: str
    """A small copy, in base64."""


class Mistakes(StoredModel):
    """What networks find wrongly or miss on all validation images."""

    names: tuple[str, ...]
    """The classes."""
    score_from: float
    """Score from which on a box counts."""
    iou: float
    """Overlap from which on a box covers a label."""
    num_images: int
    """Images that were looked at: the whole set."""
    num_mistaken: int
    """Images on which the network is wrong or misses something."""
    network: str = "student"
    """Whose mistakes the images show: the student, or the first one where networks alone were evaluated."""
    networks: dict[str, NetworkMistakes]
    """By role, or by title where networks alone were evaluated."""
    images: tuple[MistakenImage, ...]
    """The worst first: some of all, and the worst of each class."""
