"""Decide by a pilot whether a distillation is kept, lowered or stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence

from retort.report.verdict import NOTHING, SEED_NOISE, Noise, image_interval, points
from retort.spec import DistillationSpec
from retort.spec.pilot import PilotArm, PilotArmName, PilotDecision, PilotFigures
from retort.spec.verdict import Resampled, VerdictInterval

SHARE = 0.1
"""Part of the job's epochs that each of the short trainings has."""
FEWEST_EPOCHS = 20
"""A shorter job has no tenth in which anything is learned."""
HELD_APART = 0.2
"""Part of the labelled training images that is measured on."""
FEWEST_HELD_APART = 20
"""With fewer no difference could be told from chance."""
LOWERED = 0.5
"""Part of its weights that a lowered distillation keeps."""


def pilot_epochs(epochs: int) -> int:
    """Return the epochs of each short training of a job of *epochs*."""
    return max(2, round(SHARE * epochs))


EARLY_NOISE = 0.9
"""Noise of seeds in the first steps of trainings that share start and batches, over p (1 - p) / sqrt(steps) at an mAP
of p: as measured (docs/log/pilots.md)."""


def seed_noise(score: float, num_steps: int) -> float:
    """Return the standard deviation that seeds alone make after *num_steps*.

    It is that of the difference of two trainings which share start and batches, at an mAP50-95 of *score*. mAP grows
    from 0 to 1 as a logistic curve does: what chance moves along it shows most in the middle.
    """
    return math.hypot(SEED_NOISE, EARLY_NOISE * score * (1 - score) / num_steps**0.5)


def compared(plain: PilotArm, arm: PilotArm, images: Resampled, num_steps: int) -> PilotArm:
    """Return *arm* with its difference to *plain*, and its interval.

    The interval is made as that of a verdict on one seed, with the noise that seeds have after *num_steps*.
    """
    difference = arm.map - plain.map
    noise = Noise(images, seeds=seed_noise((arm.map + plain.map) / 2, num_steps))
    return arm.model_copy(update={"difference": difference, "interval": image_interval(difference, noise)})


def pays(plain: PilotArm, arm: PilotArm) -> bool:
    """Return True if *arm* is shown to be better than *plain*."""
    learned = max(plain.map, arm.map) >= NOTHING
    return learned and arm.interval is not None and arm.interval.low > 0


def next_arm(arms: Sequence[PilotArm]) -> PilotArmName | None:
    """Return the arm to train after *arms*; None when they decide."""
    order: tuple[PilotArmName, ...] = ("plain", "recipe", "lowered")
    if len(arms) < 2:
        return order[len(arms)]
    return None if pays(arms[0], arms[-1]) or len(arms) == len(order) else order[len(arms)]


def decide(arms: Sequence[PilotArm]) -> tuple[PilotDecision, str]:
    """Return what the measured *arms* decide, and the sentence on it."""
    plain, *taught = arms
    last = taught[-1]
    told = "; ".join(f"the {one.arm}{' one' if one.arm == 'lowered' else ''} {_difference(one)}" for one in taught)
    if pays(plain, last):
        if last.arm == "recipe":
            return "go", f"The pilot lets the distillation go on as specified: {told}."
        return "lowered", f"The pilot has lowered the distillation: {told}."
    learned = max(one.map for one in arms) >= NOTHING
    why = told if learned else f"its networks have hardly learned anything ({told})"
    return "stopped", f"The pilot has stopped the distillation, which was not shown to pay: {why}."


def _difference(arm: PilotArm) -> str:
    assert arm.difference is not None, "an arm beside plain is compared"
    return f"{points(arm.difference)} points of mAP50-95 to plain ({_bounds(arm.interval)})"


def _bounds(interval: VerdictInterval | None) -> str:
    if interval is None:
        return "nothing is known of its noise"
    return f"{interval.level:.0%} interval {points(interval.low)} to {points(interval.high)}"


def skipped(why: str) -> PilotFigures:
    """Return the figures of a pilot that was not made."""
    return PilotFigures(decision="skipped", sentence=f"There was no pilot: {why}. So nothing is distilled.")


def followed(decision: PilotDecision, distillation: DistillationSpec) -> DistillationSpec | None:
    """Return the distillation after *decision*.

    None where no gain was shown, or could be.
    """
    makers = {"go": as_specified, "lowered": lowered}
    return makers[decision](distillation) if decision in makers else None


def as_specified(distillation: DistillationSpec) -> DistillationSpec:
    """Return *distillation* without the pilot, which no training depends on."""
    return distillation.model_copy(update={"pilot": False})


def lowered(distillation: DistillationSpec) -> DistillationSpec:
    """Return *distillation* with half of each weight, and labels assigned by the student."""
    losses = tuple(loss.model_copy(update={"weight": LOWERED * loss.weight}) for loss in distillation.losses)
    return as_specified(distillation).model_copy(update={"losses": losses, "assignment": "student"})
