"""Train a student without a teacher, for advice on teachers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from statistics import fmean
from typing import TYPE_CHECKING

from retort.constants import Role
from retort.pipeline.context import Context
from retort.pipeline.train import JournalCallback, network
from retort.report.foretold import MeasuredClasses, headroom
from retort.report.worth import bound
from retort.spec import AdviceSpec, TrainingSpec
from retort.spec.advised import AdviceStudent, PlainStudent
from retort.spec.figures import ClassScores
from retort.spec.worth import TeacherWorth, WorthBasis

if TYPE_CHECKING:
    from retort.training.bootstrap import Matches
    from retort.training.config import TrainConfig
    from retort.training.evaluate import Conditions


@dataclasses.dataclass(frozen=True, slots=True)
class Alone:
    """Known accuracy of the student without a teacher."""

    classes: MeasuredClasses
    basis: WorthBasis
    epochs: int | None = None
    """Of the plain training that was measured."""

    @classmethod
    def at_start(cls, about: AdviceStudent, kept: list[Matches]) -> Alone:
        """Take the weights that it starts from, as they were measured."""
        aps = {name: scores.ap for name, scores in about.per_class.items()}
        return cls(MeasuredClasses(aps, kept[0] if kept else None), "start" if aps else "none")

    @property
    def map(self) -> float | None:
        """mAP50-95, if it was measured."""
        return fmean(self.classes.aps.values()) if self.classes.aps else None

    def under(self, teacher: MeasuredClasses) -> TeacherWorth | None:
        """Return what *teacher* can be worth to it."""
        known = bool(self.classes.aps)
        return bound(
            teacher.aps,
            self.classes.aps if known else None,
            basis=self.basis,
            epochs=self.epochs,
            interval=headroom(teacher.matches, self.classes.matches if known else None, seed=0),
        )


def train(
    context: Context, epochs: int, start: Alone, conditions: Callable[[list[Matches]], Conditions]
) -> tuple[PlainStudent, Alone]:
    """Train the student for *epochs* epochs and measure its best one.

    The options are a job's defaults. Where its *start* is better than what came of it, that stands for the student:
    a bound must not be too low, and it is too high by what a longer training would still bring.
    """
    from retort.training import models, trainer
    from retort.training.evaluate import accuracy

    plan = _plan(context, epochs)
    fitted = trainer.fit(plan, _Callback(context, plan))
    kept: list[Matches] = []
    found = accuracy(models.load(fitted.weights), conditions(kept))
    context.heartbeat.beat("setup")
    per_class = {name: ClassScores(**scores) for name, scores in found.per_class.items()}
    told = PlainStudent(epochs=fitted.epochs, map50=found.map50, map=found.map, per_class=per_class)
    if start.map is not None and start.map > found.map:
        return told, start
    aps = {name: scores.ap for name, scores in per_class.items()}
    return told, Alone(MeasuredClasses(aps, kept[0] if kept else None), "fit", fitted.epochs)


def _plan(context: Context, epochs: int) -> TrainConfig:
    """Return the plan of a control with a job's default options."""
    from retort.training.config import TrainConfig

    spec = context.spec
    assert isinstance(spec, AdviceSpec), "its task says so"
    return TrainConfig(
        role=Role.CONTROL,
        **network(context, spec.student),
        data_yaml=context.inputs.data_yaml,
        epochs=epochs,
        training=TrainingSpec(epochs=epochs, imgsz=spec.imgsz, batch=context.inputs.adjustments.batch or spec.batch),
        folder=context.lasting_folder(Role.CONTROL),
        device=context.inputs.device,
        loader_workers=context.inputs.adjustments.loader_workers,
        val_batch=context.val_batch,
    )


class _Callback(JournalCallback):
    """The journal of a training that is a part of advice."""

    tells_health = False

    def progress(self, fraction: float) -> None:
        """Count the training as most of the advice."""
        super().progress(_SHARE * fraction)


_SHARE = 0.8
"""Of the advice, roughly; the candidates are the rest."""
