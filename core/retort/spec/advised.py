"""What a request for advice found out: every candidate with its figures and verdict, and which one to take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from retort.spec.figures import ClassScores, NetworkFigures
from retort.variants import Kept


class StepCost(Kept):
    """Seconds of one training step: medians of alternating repeats."""

    alone_s: float
    """The student's forward pass, loss and backward pass."""
    taught_s: float
    """The same after the teacher's forward pass."""
    num_steps: int
    """Repeats of each."""
    ratio: float
    """``taught_s`` over ``alone_s``."""


class KnownClasses(Kept):
    """How a network's classes are those of the data."""

    known: int
    """Classes of the data that it knows."""
    others: int
    """Classes that it knows and the data does not have."""
    wanted: int
    """Classes of the data."""


class Capacity(Kept):
    """How many times as large as the student a teacher is."""

    parameters: float
    gflops: float


class AdviceStudent(Kept):
    """The student, as it would start."""

    model: str
    weights: str | None
    map50: float | None
    """Null, like ``map``, where it starts from random weights."""
    map: float | None
    """mAP50-95."""
    per_class: dict[str, ClassScores]
    num_parameters: int
    gflops: float


class Candidacy(Kept):
    """What is said of every candidate."""

    weights: str
    title: str
    """Its name for people."""
    reasons: tuple[str, ...]
    """Sentences; those against it first."""


class MeasuredCandidate(Candidacy, NetworkFigures):
    """A candidate that was measured, beside the student."""

    verdict: Literal["recommended", "possible", "refused"]
    attention: float
    """Share of its parameters in attention blocks."""
    classes: KnownClasses
    step: StepCost
    capacity: Capacity
    ap_over_student: dict[str, float]
    """By how much AP50-95 it is better, by class that was measured of both."""
    weaker_classes: tuple[str, ...]
    """Classes in which it is weaker, the weakest first."""


class UnusableCandidate(Candidacy):
    """A candidate that cannot be loaded."""

    verdict: Literal["refused"]
    error: str


def _kind(value: Any) -> str:
    unusable = "error" in value if isinstance(value, Mapping) else isinstance(value, UnusableCandidate)
    return "unusable" if unusable else "measured"


AnyCandidate = Annotated[
    Annotated[MeasuredCandidate, Tag("measured")] | Annotated[UnusableCandidate, Tag("unusable")],
    Discriminator(_kind),
]
"""Only one that cannot be used has ``error``."""


class Recommendation(Kept):
    """Which candidate to take, and why."""

    weights: str
    title: str
    reasons: tuple[str, ...]


class AdviceData(Kept):
    """The data on which candidates were measured."""

    names: tuple[str, ...]
    num_val: int
    num_shared: int
    """Validation images that are also training images."""
    digest: str


class AdviceResult(Kept):
    """Which of some teachers should teach a student."""

    task: Literal["advise"] = "advise"
    student: AdviceStudent
    candidates: tuple[AnyCandidate, ...]
    recommended: Recommendation | None
    """Null where none is to be recommended."""
    sentence: str
    dataset: AdviceData
    imgsz: int = Field(description="Side of the images that were measured on.")
    batch: int
    device: str
