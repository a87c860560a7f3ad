"""Try the distillation in short trainings; lower or stop it without a gain."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from retort import files
from retort.constants import Role
from retort.errors import Stopped
from retort.pipeline import progress, train
from retort.pipeline.answers import Piloted
from retort.pipeline.context import Context
from retort.pipeline.further import FurtherCallback
from retort.report import pilot as rule
from retort.report.pilot_trainings import MOST_ARMS, ShortTraining, ShortTrainings, decided, measured, plan_short
from retort.spec import JobSpec
from retort.spec.pilot import PilotArm, PilotArmName, PilotFigures
from retort.stages.distill import teacher_config, train_config

after = "teach_ahead"
extra = True

EARLY = "the job was finished early"


def applies(spec: JobSpec) -> bool:
    """Return True where the spec asks for a pilot."""
    return spec.distillation.pilot


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run: three short trainings."""
    part = (1 - rule.HELD_APART) * rule.pilot_epochs(spec.training.epochs) / spec.training.epochs
    return part * (progress.plain(spec) + 2 * progress.distilling(spec))


def run(context: Context) -> Piloted:
    """Return the decision of the short trainings, for all seeds and arms."""
    figures = _piloted(context)
    context.journal.log(
        figures.sentence, "info" if figures.decision == "go" else "warning",
        pilot=figures.model_dump(mode="json"),
    )  # fmt: skip
    return Piloted(figures=figures)


def _piloted(context: Context) -> PilotFigures:
    plan = train_config(context, Role.CONTROL)
    short = plan_short(plan, context.spec.distillation, _labelled(context), context.folder("pilot-data"))
    if isinstance(short, PilotFigures):
        return short
    try:
        return decided(short, _Pilot(context, short).trained, partial(_told, context))
    except Stopped:
        if context.stop.is_set():
            raise
        return rule.skipped(EARLY)


def _labelled(context: Context) -> Iterator[str]:
    """Yield the stems of the images that people have labelled."""
    return (path.stem for path in (context.inputs.data_yaml.parent / "images/train").iterdir())


def _told(context: Context, sentence: str, arm: PilotArm) -> None:
    context.journal.log(sentence, pilot=arm.model_dump(mode="json"))


class _Pilot:
    """The short trainings of one job, each made once, whatever attempts have ended in between."""

    def __init__(self, context: Context, short: ShortTrainings) -> None:
        self._context = context
        self._short = short
        self._folder = context.lasting_folder("pilot")

    def trained(self, name: PilotArmName, number: int) -> ShortTraining:
        """Return one training with what it reaches."""
        context = self._context
        weights, training_s = self._network(name, number)
        context.check()
        conditions = train.conditions(context, self._short.plain.training.imgsz, split="val")
        map50, found, matches = measured(weights, conditions, self._short.held)
        return ShortTraining(map50, found, matches, training_s)

    def _network(self, name: PilotArmName, number: int) -> tuple[Path, float | None]:
        """Train one arm, unless an earlier attempt has; return its network and for how long it was trained.

        It is that of the last epoch: the best one may be the start, which is the same in all arms.
        """
        context, weights, took = self._context, self._folder / f"{name}.pt", self._folder / f"{name}.json"
        if weights.is_file() and took.is_file():
            return weights, float(took.read_text()) or None
        if context.finishes_early():
            raise Stopped(EARLY)
        plan = dataclasses.replace(self._short.plain, folder=context.lasting_folder(_prefix(name)))
        distillation, teacher = self._short.taught(name), None
        if distillation is not None:
            plan, teacher = dataclasses.replace(plan, teaching=teacher_config(context)), train.weights(context)
        callback = _PilotCallback(context, plan, _prefix(name), self._folder, (number / MOST_ARMS, 1 / MOST_ARMS))
        fitted = train.train_network(context, plan, callback, teacher=teacher, distillation=distillation)
        assert fitted.last is not None, "the last epoch's network is saved with its state"
        files.atomic_write(weights, fitted.last.read_bytes())
        files.atomic_write(took, repr(fitted.duration_s or 0.0).encode())
        context.saved(0, callback.also_saved())
        return weights, fitted.duration_s


def _prefix(name: str) -> str:
    return f"pilot-{name}"


class _PilotCallback(FurtherCallback):
    """Tells of one short training."""

    def also_saved(self) -> list[str]:
        """Return the networks that the trainings before this one have left."""
        left = (path for path in sorted(self._folder.iterdir()) if path.suffix in {".pt", ".json"})
        return [path.relative_to(self._context.workdir).as_posix() for path in left]
