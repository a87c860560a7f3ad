"""Define the typed results of stages, for later stages and attempts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retort.constants import Role
from retort.review.figures import LabelFigures, ReviewFigures
from retort.schema import StoredModel, absent
from retort.spec.arms import ArmName, MeasuredArm
from retort.spec.exported import AnyExport
from retort.spec.figures import (
    FoundBatch,
    FurtherTeacherFigures,
    Roles,
    Scores,
    SeedScores,
    StepMemory,
    TimedFigures,
)
from retort.spec.hardware import Optimisation
from retort.spec.outcome import ExtraOutcome
from retort.spec.pilot import PilotFigures
from retort.spec.result import TaughtAhead
from retort.spec.verdict import Resampled
from retort.spec.worth import TeacherWorth


class MissingAnswer(StoredModel):
    """Answer of an extra stage that could not be carried out."""

    missing: ExtraOutcome


class CheckedNetworks(StoredModel):
    """Architectures of the networks that fit each other."""

    student: str
    teachers: tuple[str, ...]
    batch: FoundBatch | None = Field(default=None, exclude_if=absent)
    """Of all trainings of the job, where the spec leaves it to the run."""
    memory: StepMemory | None = Field(default=None, exclude_if=absent)
    """What the batch of the spec takes of a GPU; absent on a CPU."""


class TrainedNetwork(StoredModel):
    """A network that was trained and published."""

    model: str
    weights: str
    """Its file, relative to the workdir."""
    metrics: dict[str, float | None]
    """Of its best epoch."""
    epochs: int
    planned_epochs: int
    batch: int
    best_epoch: int
    stopped_by: Literal["patience", "time"] | None = Field(default=None, exclude_if=absent)
    """Which limit of the spec ended the training before its last epoch."""

    duration_s: float | None = Field(default=None, exclude_if=absent)
    """For which it was trained, over all attempts."""
    last: Scores | None = Field(default=None, exclude_if=absent)
    """Of its last epoch, where that is not the best one and the data has no ``test`` split."""
    worth: TeacherWorth | None = Field(default=None, exclude_if=absent)
    """What its teacher can be worth, by what was known before it was trained."""
    optimisations: tuple[Optimisation, ...] = ()
    """What sped its training up, and what was to and did not."""
    extras: tuple[ExtraOutcome, ...] = ()
    """What could not be found out about it."""

    @property
    def finished_early(self) -> bool:
        """Whether people had the training finished before its end, which no twin can repeat."""
        return self.epochs != self.planned_epochs and self.stopped_by is None


class Piloted(StoredModel):
    """Result of the pilot."""

    figures: PilotFigures


class DroppedControl(StoredModel):
    """The control was not trained."""

    dropped: str
    """Why."""
    extra: ExtraOutcome | None = Field(default=None, exclude_if=absent)
    """What became of its training, where that was begun."""


class SeedRun(StoredModel):
    """The networks of one more seed."""

    seed: int
    student: TrainedNetwork
    control: TrainedNetwork | None = Field(default=None, exclude_if=absent)


class Repetitions(StoredModel):
    """The trainings with other seeds."""

    runs: tuple[SeedRun, ...]
    dropped: str | None = Field(default=None, exclude_if=absent)
    """Why there are none."""
    extras: tuple[ExtraOutcome, ...] = ()
    """What became of each training."""


class ArmTraining(StoredModel):
    """The network of a further arm."""

    arm: ArmName
    network: TrainedNetwork


class TrainedArms(StoredModel):
    """The further arms."""

    runs: tuple[ArmTraining, ...]
    extras: tuple[ExtraOutcome, ...] = ()
    """What became of each."""


class LabelledImages(StoredModel):
    """Result of pseudo-labelling."""

    figures: LabelFigures


class CachedTeaching(StoredModel):
    """The teacher's boxes on all images, asked ahead of time."""

    path: str
    """Their file, relative to the workdir."""
    figures: TaughtAhead


class ReviewedImages(StoredModel):
    """Result of the review."""

    figures: ReviewFigures
    num_used: int
    """Images that are trained on."""
    num_boxes: int


class Evaluated(StoredModel):
    """Result of the evaluation."""

    roles: Roles
    ensemble: tuple[FurtherTeacherFigures, ...] = ()
    arms: tuple[MeasuredArm, ...] = ()
    repeats: tuple[SeedScores, ...] = ()
    """Of the further seeds."""
    resampled: Resampled | None = None
    """Student less control over other choices of the images; null where no control was trained."""
    most: Resampled | None = Field(default=None, exclude_if=absent)
    """Of what the teacher could be worth by the control."""
    excess: Resampled | None = Field(default=None, exclude_if=absent)
    """Of the student less the better of teacher and control in each class."""
    extras: tuple[ExtraOutcome, ...] = ()
    """What became of the evaluations beside the student's."""


class ExportedForms(StoredModel):
    """Result of the exports."""

    exports: tuple[AnyExport, ...]
    extras: tuple[ExtraOutcome, ...] = ()
    """What became of each."""
    speeds: dict[str, TimedFigures] = Field(default_factory=dict)
    """Of the roles, timed in the same sitting as the forms; empty where no form was timed."""

    def retimed(self, roles: Roles) -> Roles:
        """Return *roles* with their speeds of this sitting.

        The start does the same work as the student.
        """
        told = {**self.speeds, **({"start": self.speeds[Role.STUDENT]} if Role.STUDENT in self.speeds else {})}
        found = {name: figures for name in told if (figures := getattr(roles, name)) is not None}
        return roles.model_copy(
            update={name: figures.model_copy(update=dict(told[name])) for name, figures in found.items()}
        )
