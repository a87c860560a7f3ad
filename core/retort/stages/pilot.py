"""Try the distillation in short trainings; lower or stop it without a gain."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from retort import files
from retort.constants import MAP, Role
from retort.data.held_apart import HeldApart, hold_apart
from retort.errors import Stopped
from retort.pipeline import history, progress, train
from retort.pipeline.answers import Piloted
from retort.pipeline.context import Context
from retort.pipeline.further import FurtherCallback
from retort.report import pilot as rule
from retort.report.verdict import Noise, rise_of
from retort.spec import DistillationSpec, JobSpec, TrainingSpec
from retort.spec.pilot import PilotArm, PilotArmName, PilotFigures
from retort.spec.verdict import LEVEL
from retort.stages.distill import as_specified, lowered, teacher_config, train_config

if TYPE_CHECKING:
    from retort.training.bootstrap import Matches
    from retort.training.config import TrainConfig

after = "teach_ahead"
extra = True

_MOST_ARMS = 3
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
    skipped = figures.decision == "skipped"
    context.journal.log(
        figures.sentence, "info" if figures.decision == "go" or skipped else "warning",
        pilot=figures.model_dump(mode="json"),
    )  # fmt: skip
    return Piloted(figures=figures)


def _piloted(context: Context) -> PilotFigures:
    epochs = context.spec.training.epochs
    if epochs < rule.FEWEST_EPOCHS:
        return rule.skipped(f"{epochs} epochs have no tenth in which anything is learned, {rule.FEWEST_EPOCHS} have")
    plan = train_config(context, Role.CONTROL)
    held = hold_apart(
        plan.data_yaml, _labelled(context), context.folder("pilot-data"), share=rule.HELD_APART,
        seed=context.spec.training.seed,
    )  # fmt: skip
    if held.num_held_apart < rule.FEWEST_HELD_APART:
        return rule.skipped(
            f"{held.num_held_apart} images, a fifth of the labelled ones, are too few to measure on; "
            f"{rule.FEWEST_HELD_APART} are needed"
        )
    try:
        return _Pilot(context, held, _shortened(plan, held)).run()
    except Stopped:
        if context.stop.is_set():
            raise
        return rule.skipped(EARLY)


def _labelled(context: Context) -> list[str]:
    """Return the stems of the images that people have labelled."""
    return [path.stem for path in (context.inputs.data_yaml.parent / "images/train").iterdir()]


def shorter(training: TrainingSpec, epochs: int) -> TrainingSpec:
    """Return *training* with its whole schedule compressed into *epochs*."""
    part = epochs / training.epochs
    return training.model_copy(
        update={
            "epochs": epochs, "patience": 0, "time": None, "checkpoint_every": epochs,
            "warmup_epochs": training.warmup_epochs * part, "close_mosaic": round(training.close_mosaic * part),
        }
    )  # fmt: skip


def _shortened(plan: TrainConfig, held: HeldApart) -> TrainConfig:
    training = shorter(plan.training, rule.pilot_epochs(plan.epochs))
    return dataclasses.replace(plan, data_yaml=held.data_yaml, epochs=training.epochs, training=training, watched=False)


def ramped(distillation: DistillationSpec, part: float) -> DistillationSpec:
    """Return *distillation* with its ramp in *part* of the epochs."""
    schedule = distillation.schedule
    shorter = schedule.model_copy(update={"warmup_epochs": schedule.warmup_epochs * part})
    return distillation.model_copy(update={"schedule": shorter})


class _Pilot:
    """The short trainings of one job, each made once, whatever attempts have ended in between."""

    def __init__(self, context: Context, held: HeldApart, plan: TrainConfig) -> None:
        self._context = context
        self._held = held
        self._plan = plan
        self._folder = context.lasting_folder("pilot")

    def run(self) -> PilotFigures:
        """Train and measure the arms that the decision needs."""
        arms: list[PilotArm] = []
        matches: list[Matches] = []
        while (name := rule.next_arm(arms)) is not None:
            arm, found = self._measured(name, len(arms))
            matches.append(found)
            arms.append(arm if not matches[1:] else rule.compared(arms[0], arm, self._noise(name, matches[0], found)))
            self._context.journal.log(self._told(arms[-1]), pilot=arms[-1].model_dump(mode="json"))
        decision, sentence = rule.decide(arms)
        return PilotFigures(
            decision=decision, sentence=sentence, epochs=self._plan.epochs, num_train=self._held.num_train,
            num_held_apart=self._held.num_held_apart, arms=tuple(arms),
        )  # fmt: skip

    def _told(self, arm: PilotArm) -> str:
        images = f"{self._held.num_held_apart} images that were held apart"
        return f"pilot, {arm.arm}: {arm.map:.3f} mAP50-95 on {images}, after {self._plan.epochs} epochs"

    def _noise(self, name: PilotArmName, plain: Matches, found: Matches) -> Noise:
        from retort.training.bootstrap import resample

        curves = history.curves(self._context.workdir).get(Role.JOB, {})
        learning = [curves.get(f"{_prefix(one)}/{MAP}", {}) for one in ("plain", name)]
        seed = self._context.spec.training.seed
        return Noise(resample(found, plain, level=LEVEL, seed=seed), rise_of([curve for curve in learning if curve]))

    def _measured(self, name: PilotArmName, number: int) -> tuple[PilotArm, Matches]:
        from retort.training import models
        from retort.training.evaluate import accuracy

        context = self._context
        weights, training_s = self._trained(name, number)
        context.check()
        matches: list[Matches] = []
        usual = train.conditions(context, self._plan.training.imgsz, split="val")
        conditions = dataclasses.replace(usual, data_yaml=self._held.data_yaml, on_matches=matches.append)
        found = accuracy(models.load(weights), conditions)
        return PilotArm(arm=name, map50=found.map50, map=found.map, training_s=training_s), matches[0]

    def _trained(self, name: PilotArmName, number: int) -> tuple[Path, float | None]:
        """Train one arm, unless an earlier attempt has; return its network and for how long it was trained.

        It is that of the last epoch: the best one may be the start, which is the same in all arms.
        """
        context, weights, took = self._context, self._folder / f"{name}.pt", self._folder / f"{name}.json"
        if weights.is_file() and took.is_file():
            return weights, float(took.read_text()) or None
        if context.finishes_early():
            raise Stopped(EARLY)
        plan = dataclasses.replace(self._plan, folder=context.lasting_folder(_prefix(name)))
        distillation, teacher = self._taught(name), None
        if distillation is not None:
            plan, teacher = dataclasses.replace(plan, teaching=teacher_config(context)), train.weights(context)
        callback = _PilotCallback(context, plan, _prefix(name), self._folder, (number / _MOST_ARMS, 1 / _MOST_ARMS))
        fitted = train.train_network(context, plan, callback, teacher=teacher, distillation=distillation)
        assert fitted.last is not None, "the last epoch's network is saved with its state"
        files.atomic_write(weights, fitted.last.read_bytes())
        files.atomic_write(took, repr(fitted.duration_s or 0.0).encode())
        context.saved(0, callback.also_saved())
        return weights, fitted.duration_s

    def _taught(self, name: PilotArmName) -> DistillationSpec | None:
        makers = {"recipe": as_specified, "lowered": lowered}
        if name not in makers:
            return None
        spec = self._context.spec
        return ramped(makers[name](spec.distillation), self._plan.epochs / spec.training.epochs)


def _prefix(name: str) -> str:
    return f"pilot-{name}"


class _PilotCallback(FurtherCallback):
    """Tells of one short training."""

    def also_saved(self) -> list[str]:
        """Return the networks that the trainings before this one have left."""
        left = (path for path in sorted(self._folder.iterdir()) if path.suffix in {".pt", ".json"})
        return [path.relative_to(self._context.workdir).as_posix() for path in left]
