"""Figures on labels: counts, scores, and shares of right ones with their intervals."""

from __future__ import annotations

from typing import Literal

from retort.variants import Kept


class Share(Kept):
    """A share with its interval of 95 % after Wilson."""

    right: int
    total: int
    value: float | None
    """``right`` of ``total``, 0 to 1; null where there are none."""
    low: float | None
    high: float | None


class PrecisionRecall(Kept):
    """How many of the boxes found are right, and how many of those that are there are found."""

    precision: Share
    recall: Share


class LabelComparison(PrecisionRecall):
    """The same, of all boxes and by class."""

    per_class: dict[str, PrecisionRecall]


class LabelAgreement(LabelComparison):
    """How labels of the teacher agree with labels that are there for the same images."""

    num_images: int


class ReviewFigures(Kept):
    """What people who looked at the teacher's labels said of them."""

    mode: Literal["sample", "all"]
    """Which images they were asked about."""
    num_images: int
    """Images that were looked at and decided about."""
    num_unseen: int
    """Images that were decided about without being looked at; they do not count in the shares."""
    num_accepted: int
    num_rejected: int
    num_edited: int
    precision: Share
    """Of the teacher's labels on the images that were looked at."""
    recall: Share
    """The same, on those that were not rejected."""
    per_class: dict[str, Share]
    """Precision by class."""


class LeftOut(Kept):
    """Images that are not trained on, by reason."""

    validation: int
    """They look like validation images."""
    training: int
    """They look like labelled training images."""
    duplicate: int
    """They look like another one of them."""
    empty: int
    """Nothing was found on them."""
    unreadable: int
    """They cannot be opened."""


class ClassLabels(Kept):
    """The teacher's labels of one class."""

    num_images: int
    num_boxes: int
    num_doubtful: int
    """Boxes that count as neither label nor background."""
    histogram: tuple[int, ...]
    """Boxes by score, in 20 equal steps from 0 to 1."""


class ClassDoubts(Kept):
    """How the teacher sees the training labels of one class."""

    num_boxes: int
    num_missing: int
    num_doubtful: int
    num_duplicate: int


class ExistingLabels(ClassDoubts):
    """How the teacher sees the training labels that were there."""

    num_images: int
    num_suspect: int
    """Images whose labels should be looked at."""
    per_class: dict[str, ClassDoubts]
    agreement: LabelAgreement


class LabelFigures(Kept):
    """What the teacher has found on images without labels."""

    num_images: int
    num_used: int
    """Images with labels that nothing speaks against."""
    left_out: LeftOut
    num_boxes: int
    num_doubtful: int
    """Boxes that count as neither label nor background."""
    confidence: dict[str, float]
    """Score from which on a box is a label, by class."""
    ignore_from: float | None
    """Score from which on a box that is no label is doubtful."""
    per_class: dict[str, ClassLabels]
    histogram: tuple[int, ...]
    """Boxes of all classes by score, in 20 equal steps from 0 to 1."""
    agreement: LabelAgreement | None = None
    """With labels that were there for some of the images."""
    existing: ExistingLabels | None = None
    """Where the spec asks for the training labels to be checked."""
