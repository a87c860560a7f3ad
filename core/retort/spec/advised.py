"""Define the result of an advice job: candidates, verdicts, recommendation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from retort.schema import StoredModel, absent
from retort.spec.figures import ClassScores, NetworkFigures
from retort.spec.worth import TeacherWorth


class StepCost(StoredModel):
    """Seconds of one training step: medians of alternating repeats."""

    alone_s: float
    """The student's forward pass, loss and backward pass."""
    taught_s: float
    """The same after the teacher's forward pass."""
    num_steps: int
    """Repeats of each."""
    ratio: float
    """``taught_s`` over ``alone_s``."""


class KnownClasses(StoredModel):
    """How a network's classes are those of the data."""

    known: int
    """Classes of the data that it knows."""
    others: int
    """Classes that it knows and the data does not have."""
    wanted: int
    """Classes of the data."""


class Capacity(StoredModel):
    """How many times as large as the student a teacher is."""

    parameters: float
    """In weights."""
    gflops: float
    """In operations for one image."""


class PlainStudent(StoredModel):
    """The student after some epochs without a teacher."""

    epochs: int
    """For which it was trained."""
    map50: float
    """mAP at an IoU of 0.50."""
    map: float
    """mAP50-95."""
    per_class: dict[str, ClassScores]
    """By class with ground truth."""


class AdviceStudent(StoredModel):
    """The student, as it would start."""

    model: str
    """Its architecture."""
    weights: str | None
    """From which it would start; null for random ones."""
    map50: float | None
    """Null, like ``map``, where it starts from random weights."""
    map: float | None
    """mAP50-95."""
    per_class: dict[str, ClassScores]
    """By class with ground truth."""
    num_parameters: int
    """Its weights."""
    gflops: float
    """Billions of operations for one image."""
    plain: PlainStudent | None = Field(default=None, exclude_if=absent)
    """The same after ``student_epochs``, where these were asked for."""


class Candidacy(StoredModel):
    """What is said of every candidate."""

    weights: str
    """Its weights, as the request names them."""
    title: str
    """Its name for people."""
    reasons: tuple[str, ...]
    """Sentences; those against it first."""


class MeasuredCandidate(Candidacy, NetworkFigures):
    """A candidate that was measured, beside the student."""

    verdict: Literal["recommended", "possible", "refused"]
    """Whether it should teach."""
    attention: float
    """Share of its parameters in attention blocks."""
    classes: KnownClasses
    """Its classes beside the data's."""
    step: StepCost
    """What it costs in training."""
    capacity: Capacity
    """Its size beside the student's."""
    ap_over_student: dict[str, float]
    """By how much AP50-95 it is better, by class that was measured of both."""
    weaker_classes: tuple[str, ...]
    """Classes in which it is weaker, the weakest first."""
    worth: TeacherWorth | None = Field(default=None, exclude_if=absent)
    """What it can be worth at most; absent where it knows none of the classes, and in results from before."""


class UnusableCandidate(Candidacy):
    """A candidate that cannot be loaded."""

    verdict: Literal["refused"]
    """What cannot be loaded cannot teach."""
    error: str
    """Why it cannot be loaded."""


def _kind(value: Any) -> str:
    unusable = "error" in value if isinstance(value, Mapping) else isinstance(value, UnusableCandidate)
    return "unusable" if unusable else "measured"


AnyCandidate = Annotated[
    Annotated[MeasuredCandidate, Tag("measured")] | Annotated[UnusableCandidate, Tag("unusable")],
    Discriminator(_kind),
]
"""Only one that cannot be used has ``error``."""


class Recommendation(StoredModel):
    """Which candidate to take, and why."""

    weights: str
    """Its weights, as the request names them."""
    title: str
    """Its name for people."""
    reasons: tuple[str, ...]
    """Sentences."""


class AdviceData(StoredModel):
    """The data on which candidates were measured."""

    names: tuple[str, ...]
    """Its classes in the order of their ids."""
    num_val: int
    """Validation images."""
    num_shared: int
    """Validation images that are also training images."""
    digest: str
    """SHA-256 over its files."""


class AdviceResult(StoredModel):
    """Which of some teachers should teach a student."""

    task: Literal["advise"] = "advise"
    """Tells advice from the result of a distillation."""
    student: AdviceStudent
    """The network that is to learn."""
    candidates: tuple[AnyCandidate, ...]
    """In the order of the request."""
    recommended: Recommendation | None
    """Null where none is to be recommended."""
    sentence: str
    """The advice in words."""
    dataset: AdviceData
    """On what was measured."""
    imgsz: int = Field(description="Side of the images that were measured on.")
    batch: int
    """Images of a training step."""
    device: str
    """``cpu``, or the GPU's product name."""
