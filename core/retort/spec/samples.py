"""Define the document of what the student saw on sample images, epoch by epoch."""

from __future__ import annotations

from retort.schema import StoredModel
from retort.spec.mistakes import Outcome, OutcomeCounts

SAMPLES = "samples.json"
"""The name of the artifact."""


class SampleBox(StoredModel):
    """A sample image's box, with its outcome; corners are shares of the sides."""

    outcome: Outcome
    """Whether it was found, is wrong, or was missed."""
    name: str
    """Of its class."""
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


class SampledImage(StoredModel):
    """A validation image."""

    file: str
    """Its name."""
    width: int
    """Of the copy, in pixels."""
    height: int
    """Of the copy, in pixels."""
    jpeg: str
    """A small copy, in base64."""


class SampledEpoch(StoredModel):
    """Boxes of the student after one epoch."""

    epoch: int
    """Counted from 1."""
    total: OutcomeCounts
    """Of all sample images."""
    boxes: tuple[tuple[SampleBox, ...], ...]
    """By image, with the labels that were missed; the 60 most certain of an image."""


class EpochSamples(StoredModel):
    """The student on sample images, by its published checkpoints."""

    score_from: float
    """Score from which on a box counts."""
    iou: float
    """Overlap from which on a box covers a label."""
    images: tuple[SampledImage, ...]
    """Spread evenly over the validation images that have labels."""
    epochs: tuple[SampledEpoch, ...]
    """Those that published a checkpoint, 10 at most."""
