"""Define the further arms of a job: controls with one difference each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from retort.schema import StoredModel, distinct, without_default
from retort.spec.figures import TrainedFigures
from retort.spec.verdict import Kind, Resampled, VerdictInterval

ArmName = Literal["class_weights", "assignment", "placebo", "self", "equal_time", "labelled_only", "without_unlabelled"]


def _each_once(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema that none is listed twice, and leave out a default that depends on other fields."""
    schema["uniqueItems"] = True
    without_default(schema)


Arms = Annotated[
    tuple[ArmName, ...],
    Field(strict=False, max_length=7, json_schema_extra=_each_once),
    AfterValidator(distinct),
]

ABOUT: dict[ArmName, str] = {
    "class_weights": "the control, with the classes of its task loss weighed as the recipe weighs them in its terms",
    "assignment": "the control, with labels assigned by the teacher as in the student, and no distillation terms",
    "placebo": "the student, distilled in full from a network that has nothing to teach it",
    "self": "the student, distilled in full from the average of its own weights",
    "equal_time": "the control, trained for as long as the student took",
    "labelled_only": "the control, trained on the labelled images alone, for as many optimizer steps",
    "without_unlabelled": "the student, distilled on the labelled images alone, without the unlabelled ones",
}
"""What each of them is."""
SOURCES: tuple[ArmName, ...] = ("labelled_only", "without_unlabelled")
"""Those that tell what further images brought from what the terms brought; a spec that leaves ``arms`` out has them."""
_FIRST = frozenset({"student", "distillation", "training", "control", "exports", "tracking", "resources"})
"""Fields that a stored spec has had since before there were arms: it has all fields written out."""


def by_default(document: Mapping[str, Any]) -> tuple[ArmName, ...]:
    """Return the arms of a spec's *document* that leaves them out.

    A stored spec from before there were arms has none, as it meant.
    """
    if document.get("control", True) is not True or document.keys() >= _FIRST:
        return ()
    data, training = document.get("data"), document.get("training")
    if isinstance(training, Mapping) and training.get("fraction", 1) != 1:
        return ()  # of which the labelled images would be another part
    further = isinstance(data, Mapping) and data.get("unlabelled") is not None
    asked = {"labelled_only": document.get("pseudo_labels") is not None, "without_unlabelled": further}
    return tuple(arm for arm in SOURCES if asked[arm])


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
    resampled_control: Resampled | None = None
    """Control less this arm over other choices of the images, of arms that tell what further images brought."""


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
