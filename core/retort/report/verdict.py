"""The verdict on a run in plain sentences, no better than the figures allow."""

from __future__ import annotations

from typing import Literal

from retort.spec.figures import SeedStatistics
from retort.spec.report import Verdict
from retort.spec.result import JobResult, TrainingFigures

Kind = Literal["gain", "none", "loss", "unknown"]

_UNCLEAR = 0.005
"""A smaller difference of mAP than half a point is called none: seeds alone move it more."""
_FEW_IMAGES = 100
_NOTHING = 0.02


def verdict(result: JobResult) -> Verdict:
    """Judge the result of a run."""
    kind, sentence = _judge(result)
    return Verdict(kind=kind, sentence=sentence, caveats=tuple(_caveats(result)))


def _judge(result: JobResult) -> tuple[Kind, str]:
    gain = result.gain
    if gain is None:
        why = result.control_dropped or "no control was trained"
        return "unknown", (
            f"The student reaches {_percent(result.roles.student.map)} mAP50-95. "
            f"{why[0].upper()}{why[1:]}, so what the distillation bought is unknown."
        )
    over = None if result.seeds is None else result.seeds.statistics.map
    if over is not None:
        return _judge_seeds(over)
    points = f"{abs(gain.map) * 100:.1f}"
    if abs(gain.map) < _UNCLEAR:
        return "none", (
            f"Distillation made no clear difference: {gain.map * 100:+.1f} points of mAP50-95 against the "
            "undistilled control."
        )
    if gain.map < 0:
        return "loss", (
            f"Distillation did not help: the student ends {points} points of mAP50-95 below its undistilled control."
        )
    closed = None if result.gap_closed is None else result.gap_closed.map
    share = f" It closes {closed * 100:.0f}\N{NO-BREAK SPACE}% of the gap to the teacher." if closed is not None else ""
    return "gain", f"The student gained {points} points of mAP50-95 over its undistilled control.{share}"


def _judge_seeds(over: SeedStatistics) -> tuple[Kind, str]:
    """Judge the difference of several seeds by its interval: one that holds 0 shows no difference."""
    found = over.difference
    numbers = (
        f"{found.mean * 100:+.1f} points of mAP50-95 over {over.num_seeds} seeds "
        f"({found.level:.0%} interval {found.low * 100:+.1f} to {found.high * 100:+.1f}, "
        f"paired t-test p = {found.p_value:.2g})"
    )
    if found.low > 0:
        return "gain", f"Distillation gained {numbers}, against the undistilled control."
    if found.high < 0:
        return "loss", f"Distillation did not help: {numbers}, against the undistilled control."
    return "none", f"No difference is shown: {numbers}, against the undistilled control."


def _caveats(result: JobResult) -> list[str]:
    roles, dataset, training = result.roles, result.dataset, result.training
    found: list[str] = []
    if result.gain is not None and result.gap_closed is not None:
        found.append(_on_seeds(result))
        if roles.teacher.map is None:
            found.append("The teacher knows none of the data's classes and has no mAP, so no gap to it is known.")
        elif result.gap_closed.map is None:
            found.append("The teacher is no better than the control, or hardly, so there is no gap to close.")
    found.extend(_on_epochs(training))
    if roles.student.map < _NOTHING:
        found.append("The student has hardly learned anything yet: train longer before comparing.")
    if roles.teacher.map is not None and roles.teacher.map < roles.student.map:
        found.append("The teacher is weaker than the student: take a better one, or train it longer.")
    if more := result.unlabelled:
        found.append(
            f"The student also saw {more.num_images} unlabelled images, which its control never saw: "
            "the difference includes what they bought."
        )
    if dataset.num_shared:
        found.append(
            f"{dataset.num_shared} of the {dataset.num_val} validation images are also training images: "
            "these figures do not measure how well the networks generalise."
        )
    if dataset.num_val < _FEW_IMAGES:
        found.append(f"{dataset.num_val} validation images are few: a point of mAP is a handful of boxes.")
    return found


def _on_epochs(training: TrainingFigures | None) -> list[str]:
    """Say what ended a training before its last epoch."""
    if training is None or training.epochs == training.planned_epochs:
        return []
    ended = f"after epoch {training.epochs} of {training.planned_epochs}: the learning rate had not come down yet."
    if training.stopped_by is None:
        return [f"Training was finished early, {ended}"]
    return [f"Student and control each end by training.{training.stopped_by}, the student {ended}"]


def _on_seeds(result: JobResult) -> str:
    over = None if result.seeds is None else result.seeds.statistics.map
    if over is None:
        return "One seed: there is no interval, and another seed may give another difference."
    return (
        f"The interval is over {over.num_seeds} seeds on one data set; the figures of the student that is published "
        "are those of the first."
    )


def _percent(value: float) -> str:
    return f"{value * 100:.1f}"
