"""Make the short trainings of a pilot, and compare them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from retort.data.held_apart import HeldApart, hold_apart
from retort.report import pilot as rule
from retort.spec import DistillationSpec, TrainingSpec
from retort.spec.pilot import PilotArm, PilotArmName, PilotFigures
from retort.spec.verdict import LEVEL

if TYPE_CHECKING:
    from retort.training.bootstrap import Matches
    from retort.training.config import TrainConfig
    from retort.training.evaluate import Conditions

MOST_ARMS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class ShortTrainings:
    """The plan of a pilot's trainings."""

    plain: TrainConfig
    """Of the one without a teacher."""
    held: HeldApart
    whole: int
    """Epochs of the job."""
    distillation: DistillationSpec

    @property
    def num_steps(self) -> int:
        """Batches that each of the trainings learns from."""
        batch = self.plain.training.batch
        assert batch != "auto", "the run has found it"
        return self.plain.epochs * math.ceil(self.held.num_train / batch)

    def taught(self, name: PilotArmName) -> DistillationSpec | None:
        """Return the distillation of the arm *name*; None for plain."""
        makers = {"recipe": rule.as_specified, "lowered": rule.lowered}
        if name not in makers:
            return None
        return ramped(makers[name](self.distillation), self.plain.epochs / self.whole)


@dataclasses.dataclass(frozen=True, slots=True)
class ShortTraining:
    """One short training, measured on the held-apart images."""

    map50: float
    map: float
    matches: Matches
    training_s: float | None


def plan_short(
    plan: TrainConfig, distillation: DistillationSpec, labelled: Iterable[str], folder: Path
) -> ShortTrainings | PilotFigures:
    """Return the plan of the short trainings.

    It is the figures of a pilot that is skipped where they would show nothing.

    *plan* is that of the student without a teacher. The data are laid out in the empty *folder*; only images whose stem
    is among *labelled* are held apart.
    """
    if plan.epochs < rule.FEWEST_EPOCHS:
        return rule.skipped(
            f"{plan.epochs} epochs have no tenth in which anything is learned, {rule.FEWEST_EPOCHS} have"
        )
    held = hold_apart(plan.data_yaml, labelled, folder, share=rule.HELD_APART, seed=plan.training.seed)
    if held.num_held_apart < rule.FEWEST_HELD_APART:
        return rule.skipped(
            f"{held.num_held_apart} images, a fifth of the labelled ones, are too few to measure on; "
            f"{rule.FEWEST_HELD_APART} are needed"
        )
    return ShortTrainings(_shortened(plan, held), held, plan.epochs, distillation)


def _shortened(plan: TrainConfig, held: HeldApart) -> TrainConfig:
    whole, mixture = plan.training.model_copy(update={"epochs": plan.epochs}), plan.mixture
    training = shorter(whole, rule.pilot_epochs(plan.epochs))
    if mixture is not None:
        part = training.epochs / plan.epochs
        mixture = dataclasses.replace(mixture, burn_in=round(mixture.burn_in * part), ramp=round(mixture.ramp * part))
    return dataclasses.replace(
        plan, data_yaml=held.data_yaml, epochs=training.epochs, training=training, mixture=mixture, watched=False
    )


def shorter(training: TrainingSpec, epochs: int) -> TrainingSpec:
    """Return *training* with its whole schedule compressed into *epochs*."""
    part = epochs / training.epochs
    return training.model_copy(
        update={
            "epochs": epochs, "patience": 0, "time": None, "checkpoint_every": epochs,
            "warmup_epochs": training.warmup_epochs * part, "close_mosaic": round(training.close_mosaic * part),
        }
    )  # fmt: skip


def ramped(distillation: DistillationSpec, part: float) -> DistillationSpec:
    """Return *distillation* with its ramp in *part* of the epochs."""
    schedule = distillation.schedule
    shorter = schedule.model_copy(update={"warmup_epochs": schedule.warmup_epochs * part})
    return distillation.model_copy(update={"schedule": shorter})


def measured(weights: Path, conditions: Conditions, held: HeldApart) -> tuple[float, float, Matches]:
    """Return mAP50, mAP50-95 and matches of a short training's network on the held-apart images.

    Its batch normalisation has statistics of the images that it was trained on: after few steps the running ones lag,
    and rank networks in the wrong order (docs/log/recipes-pretrained.md).
    """
    from retort.training import models
    from retort.training.evaluate import accuracy
    from retort.training.precise_batch_norm import renew_statistics
    from retort.training.ultralytics_api import select_device

    matches: list[Matches] = []
    here = dataclasses.replace(conditions, data_yaml=held.data_yaml, split="val", on_matches=matches.append)
    network = models.load(weights).to(select_device(conditions.device, verbose=False))
    images = sorted((held.data_yaml.parent / "images/train").iterdir())
    renew_statistics(network, images, conditions.imgsz, on_batch=conditions.on_batch)
    found = accuracy(network, here)
    return found.map50, found.map, matches[0]


def decided(
    short: ShortTrainings,
    train: Callable[[PilotArmName, int], ShortTraining],
    tell: Callable[[str, PilotArm], None],
) -> PilotFigures:
    """Train and measure the arms that the decision needs, and return what they decide.

    *train* makes one by its name and number; *tell* takes a sentence and the figures of each.
    """
    arms: list[PilotArm] = []
    trained: list[ShortTraining] = []
    while (name := rule.next_arm(arms)) is not None:
        found = train(name, len(arms))
        arm = PilotArm(arm=name, map50=found.map50, map=found.map, training_s=found.training_s)
        arms.append(_compared(short, (arms[0], trained[0]), (arm, found)) if trained else arm)
        trained.append(found)
        images = f"{short.held.num_held_apart} images that were held apart"
        tell(f"pilot, {name}: {arm.map:.3f} mAP50-95 on {images}, after {short.plain.epochs} epochs", arms[-1])
    decision, sentence = rule.decide(arms)
    return PilotFigures(
        decision=decision, sentence=sentence, epochs=short.plain.epochs, num_train=short.held.num_train,
        num_held_apart=short.held.num_held_apart, arms=tuple(arms),
    )  # fmt: skip


def _compared(
    short: ShortTrainings, plain: tuple[PilotArm, ShortTraining], taught: tuple[PilotArm, ShortTraining]
) -> PilotArm:
    """Return an arm with its difference to plain, and its interval."""
    from retort.training.bootstrap import resample

    images = resample(taught[1].matches, plain[1].matches, level=LEVEL, seed=short.plain.training.seed)
    return rule.compared(plain[0], taught[0], images, short.num_steps)
