"""Define the verdict, manifest and machine-readable report of a result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from retort.review.figures import Share
from retort.schema import StoredModel, absent
from retort.spec.figures import FurtherTeacherFigures
from retort.spec.image_use import ImageUse
from retort.spec.result import JobResult, TrainingFigures, UnlabelledUse
from retort.spec.verdict import Verdict


class StudentOrigin(StoredModel):
    """The file that a manifest goes with."""

    model: str
    """Its architecture."""
    file: str
    """Its name among the artifacts."""
    sha256: str
    """Of the file."""


class TeacherOrigin(StoredModel):
    """The weights that taught."""

    model: str
    """The name of its weights."""
    sha256: str
    """Of the file."""


class FurtherTeacherOrigin(FurtherTeacherFigures):
    """The weights of one more teacher."""

    sha256: str
    """Of the file."""


class DataOrigin(StoredModel):
    """The data that was learnt from."""

    digest: str
    """SHA-256 over its files."""
    num_train: int
    """Training images."""
    num_val: int
    """Validation images."""
    known_as: str | None
    """Its name among the known data sets."""
    archives: dict[str, str]
    """SHA-256 of the files that it was made from, where it was fetched."""
    images: dict[str, ImageUse] = Field(default_factory=dict)
    """By split: how many images are there, how many were used, and which were not."""
    bits: int | None = Field(default=None, exclude_if=absent)
    """Bits that images of 16 bits were taken to fill: 0 to 4095 was black to white where it is 12."""


class PseudoLabelOrigin(StoredModel):
    """The labels of the teacher that were learnt from."""

    digest: str
    """SHA-256 over the images."""
    num_trained: int
    """Images with such labels that were trained on."""
    num_boxes: int
    """Boxes that are labels."""
    confidence: dict[str, float]
    """Score from which on a box is a label, by class."""
    ignore_from: float | None
    """Score from which on a box that is no label is doubtful."""
    reviewed_precision: Share | None
    """What people found right; null where nobody looked."""


class Manifest(StoredModel):
    """Where a student comes from, byte by byte: ``manifest.json``."""

    name: str
    """Of the job."""
    spec_digest: str
    """SHA-256 of the spec's canonical JSON, in hex."""
    student: StudentOrigin
    """The file that this goes with."""
    training: TrainingFigures
    """For how long it was trained."""
    starting_weights: dict[str, str]
    """SHA-256 by name."""
    teacher: TeacherOrigin
    """Where its answers come from."""
    ensemble: tuple[FurtherTeacherOrigin, ...]
    """Further teachers."""
    unlabelled: UnlabelledUse | None
    """Images that only the student saw."""
    pseudo_labels: PseudoLabelOrigin | None
    """Labels of the teacher."""
    dataset: DataOrigin
    """What was learnt from."""
    classes: tuple[str, ...]
    """In the order of their ids."""
    seeds: tuple[int, ...]
    """All that the job was trained with."""
    device: str
    """``cpu``, or the GPU's product name."""
    versions: dict[str, str]
    """Of the software that shapes a result, by package."""
    metrics: dict[str, dict[str, float | None]]
    """``val/mAP50`` and ``val/mAP50-95`` by role."""
    license: str
    """Of the student."""
    created_at: str
    """RFC 3339."""


class Curve(StoredModel):
    """The values of one metric; both lists are of the same length."""

    step: tuple[int, ...]
    """Epochs, ascending."""
    value: tuple[float | None, ...]
    """What was measured at each; null where it was not finite."""


class HealthFinding(StoredModel):
    """One verdict of a rule on the distillation's health."""

    rule: str
    """Its name."""
    verdict: Literal["healthy", "warning", "critical"]
    """What the rule says."""
    epoch: int
    """Counted from 1; 0 is before training."""
    message: str
    """What was measured."""
    cause: str
    """What such a measurement usually comes from."""
    advice: str
    """What to change."""
    values: dict[str, float | None] = Field(default_factory=dict)
    """The figures behind it."""


class Report(StoredModel):
    """The report for machines: ``report.json``."""

    name: str
    """Of the job."""
    verdict: Verdict
    """The result in words; the same as in the result."""
    result: JobResult
    """As the job ends with."""
    health: tuple[HealthFinding, ...]
    """Verdicts on the distillation, in the order in which they were said."""
    curves: dict[str, dict[str, Curve]]
    """By role and name of the metric."""
    manifest: Manifest | None
    """As in ``manifest.json``; null where that could not be made."""
    spec: dict[str, JsonValue]
    """As resolved."""
