"""Figures on labels: counts, scores, and shares of right ones with their intervals."""

from __future__ import annotations

from typing import Literal

from retort.schema import StoredModel


class Share(StoredModel):
    """A share with its interval of 95 % after Wilson."""

    right: int
    """Those that are right."""
    total: int
    """Those that were looked at."""
    value: float | None
    """``right`` of ``total``, 0 to 1; null where there are none."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""


class PrecisionRecall(StoredModel):
    """How many of the boxes found are right, and how many of those that are there are found."""

    precision: Share
    """Right ones among the boxes found."""
    recall: Share
    """Boxes found among those that are there."""


class LabelComparison(PrecisionRecall):
    """The same, of all boxes and by class."""

    per_class: dict[str, PrecisionRecall]
    """The same by class."""


class LabelAgreement(LabelComparison):
    """How labels of the teacher agree with labels that are there for the same images."""

    num_images: int
    """Images that were compared."""


class ReviewFigures(StoredModel):
    """What people who looked at the teacher's labels said of them."""

    mode: Literal["sample", "all"]
    """Which images they were asked about."""
    num_images: int
    """Images that were looked at and decided about."""
    num_unseen: int
    """Images that were decided about without being looked at; they do not count in the shares."""
    num_accepted: int
    """Images whose labels were all right."""
    num_rejected: int
    """Images that are not trained on."""
    num_edited: int
    """Images whose boxes were drawn anew."""
    precision: Share
    """Of the teacher's labels on the images that were looked at."""
    recall: Share
    """The same, on those that were not rejected."""
    per_class: dict[str, Share]
    """Precision by class."""


class LeftOut(StoredModel):
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


class ClassLabels(StoredModel):
    """The teacher's labels of one class."""

    num_images: int
    """Images that show the class."""
    num_boxes: int
    """Boxes that are labels."""
    num_doubtful: int
    """Boxes that count as neither label nor background."""
    histogram: tuple[int, ...]
    """Boxes by score, in 20 equal steps from 0 to 1."""


class ClassDoubts(StoredModel):
    """How the teacher sees the training labels of one class."""

    num_boxes: int
    """Labels that are there."""
    num_missing: int
    """Boxes that seem to be missing."""
    num_doubtful: int
    """Labels where the teacher sees nothing of their class."""
    num_duplicate: int
    """Labels that are there twice."""


class ExistingLabels(ClassDoubts):
    """How the teacher sees the training labels that were there."""

    num_images: int
    """Training images."""
    num_suspect: int
    """Images whose labels should be looked at."""
    per_class: dict[str, ClassDoubts]
    """The same by class."""
    agreement: LabelAgreement
    """Of the teacher's boxes with the labels."""


class LabelFigures(StoredModel):
    """What the teacher has found on images without labels."""

    num_images: int
    """Images that there were."""
    num_used: int
    """Images with labels that nothing speaks against."""
    left_out: LeftOut
    """Images that are not trained on."""
    num_boxes: int
    """Boxes that are labels."""
    num_doubtful: int
    """Boxes that count as neither label nor background."""
    confidence: dict[str, float]
    """Score from which on a box is a label, by class."""
    ignore_from: float | None
    """Score from which on a box that is no label is doubtful."""
    per_class: dict[str, ClassLabels]
    """The same by class."""
    histogram: tuple[int, ...]
    """Boxes of all classes by score, in 20 equal steps from 0 to 1."""
    agreement: LabelAgreement | None = None
    """With labels that were there for some of the images."""
    existing: ExistingLabels | None = None
    """Where the spec asks for the training labels to be checked."""
