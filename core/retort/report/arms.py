"""Judge the difference between the student and each further arm."""

from __future__ import annotations

from collections.abc import Mapping

from retort.constants import MAP, Role
from retort.report.verdict import NOTHING, Curve, Noise, image_interval, kind_of, points, rise_of
from retort.spec.arms import ABOUT, ArmFigures, ArmName, MeasuredArm
from retort.spec.figures import TrainedFigures
from retort.spec.verdict import Kind, VerdictInterval

Curves = Mapping[str, Mapping[str, Curve]]

_SHOWS: dict[ArmName, dict[Kind, str]] = {
    "class_weights": {
        "gain": "Distillation gives more than class weights alone.",
        "none": "It is not shown that distillation gives more than class weights alone.",
        "loss": "Class weights alone give more than distillation.",
    },
    "assignment": {
        "gain": "The distillation terms add to what the teacher's assignment of labels gives.",
        "none": "It is not shown that the distillation terms add to the teacher's assignment of labels.",
        "loss": "The teacher's assignment of labels gives more without the distillation terms.",
    },
    "placebo": {
        "gain": "What the teacher knows is of use: the same procedure without it gives less.",
        "none": "It is not shown that what the teacher knows is of use: the procedure alone may account for a gain.",
        "loss": "The same procedure gives more without what this teacher knows.",
    },
    "self": {
        "gain": "What the teacher knows is of use beyond the student's own average as a teacher.",
        "none": "It is not shown that the teacher gives more than the student's own average: regularisation alone may "
        "account for a gain.",
        "loss": "The student's own average is the better teacher.",
    },
    "equal_time": {
        "gain": "The time is better spent on distillation than on a longer training without a teacher.",
        "none": "It is not shown that the time is better spent on distillation than on a longer training.",
        "loss": "The time is better spent on a longer training without a teacher.",
    },
    "labelled_only": {
        "gain": "The teacher's labels and the distillation terms together give more than the labelled images alone.",
        "none": "It is not shown that the teacher's labels and the terms give more than the labelled images alone.",
        "loss": "The labelled images alone give more than with the teacher's labels and the distillation terms.",
    },
    "without_unlabelled": {
        "gain": "The unlabelled images add to what distillation on the labelled ones gives.",
        "none": "It is not shown that the unlabelled images add to distillation on the labelled ones.",
        "loss": "Distillation on the labelled images alone gives more than with the unlabelled ones.",
    },
}
_NOTHING_LEARNED = "Neither has learned enough to be compared."


def judged(
    student: TrainedFigures, arms: tuple[MeasuredArm, ...], curves: Curves, training_s: float | None
) -> tuple[ArmFigures, ...]:
    """Return the arms with what each difference shows.

    Each is of one seed, so that its interval holds the choice of the images and the noise of seeds, as the verdict's of
    a job with one seed does.
    """
    return tuple(_judged(student, one, curves, training_s) for one in arms)


def _judged(student: TrainedFigures, one: MeasuredArm, curves: Curves, training_s: float | None) -> ArmFigures:
    difference = student.map - one.figures.map
    prefix = one.path.removesuffix(".pt")
    learning = [curves.get(Role.STUDENT, {}).get(MAP), curves.get(Role.JOB, {}).get(f"{prefix}/{MAP}")]
    noise = Noise(resampled=one.resampled, rise=rise_of([curve for curve in learning if curve is not None]))
    interval = image_interval(difference, noise)
    learned = max(student.map, one.figures.map) >= NOTHING
    kind = kind_of(interval) if learned else "none"
    return ArmFigures(
        arm=one.arm, figures=one.figures, path=one.path, training_s=one.training_s, student_training_s=training_s,
        difference=difference, interval=interval, kind=kind,
        sentence=_sentence(one.arm, difference, interval, _SHOWS[one.arm][kind] if learned else _NOTHING_LEARNED),
    )  # fmt: skip


def _sentence(arm: ArmName, difference: float, interval: VerdictInterval | None, shows: str) -> str:
    bounds = "nothing is known of its noise"
    if interval is not None:
        bounds = f"{interval.level:.0%} interval {points(interval.low)} to {points(interval.high)}"
    return f"{shows} Student less {arm} ({ABOUT[arm]}): {points(difference)} points of mAP50-95 ({bounds})."
