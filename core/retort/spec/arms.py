"""Define the further arms of a job: controls with one difference each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from retort.schema import StoredModel, distinct
from retort.spec.figures import TrainedFigures
from retort.spec.verdict import Kind, Resampled, VerdictInterval

ArmName = Literal["class_weights", "assignment", "placebo", "equal_time"]

Arms = Annotated[
    tuple[ArmName, ...],
    Field(strict=False, max_length=4, json_schema_extra={"uniqueItems": True}),
    AfterValidator(distinct),
]

ABOUT: dict[ArmName, str] = {
    "class_weights": "the control, with the classes of its task loss weighed as the recipe weighs them in its terms",
    "assignment": "the control, with labels assigned by the teacher as in the student, and no distillation terms",
    "placebo": "the student, distilled in full from a network that has nothing to teach it",
    "equal_time": "the control, trained for as long as the student took",
}
"""What each of them is."""


class MeasuredArm(StoredModel):
    """What a further arm reaches, before it is judged."""

    arm: ArmName
    """Which one it is."""
    figures: TrainedFigures
    """Of its network, by the same judge as the student's."""
    path: str
    """Its weights, by the name of the artifact."""
    training_s: float | None
    """Seconds of its training, over all attempts."""
    resampled: Resampled | None = None
    """Student less this arm over other choices of the images; null where that failed."""


class ArmFigures(StoredModel):
    """What a further arm reaches, and what the difference between the student and it shows."""

    arm: ArmName
    """Which one it is."""
    figures: TrainedFigures
    """Of its network, by the same judge as the student's."""
    path: str
    """Its weights, by the name of the artifact."""
    training_s: float | None
    """Seconds of its training, over all attempts."""
    student_training_s: float | None
    """The same of the student it is compared with, that of the first seed."""
    difference: float
    """Student less this arm in mAP50-95, of one seed."""
    interval: VerdictInterval | None
    """Of the difference; null where nothing is known of its noise."""
    kind: Kind
    """``gain`` and ``loss`` only where the interval has no zero in it."""
    sentence: str
    """What the difference shows."""
