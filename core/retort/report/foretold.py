"""Measure what a teacher can be worth, before its student is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from retort.constants import Role
from retort.files import atomic_write, sha256_of
from retort.pipeline import train
from retort.pipeline.context import Context
from retort.pipeline.failures import explain
from retort.report.worth import LITTLE, bound
from retort.spec.verdict import LEVEL, Resampled
from retort.spec.worth import TeacherWorth

if TYPE_CHECKING:
    from retort.training.bootstrap import Matches
    from retort.training.evaluate import Conditions


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredClasses:
    """How well a network finds each class, and what that is made of."""

    aps: dict[str, float]
    """AP50-95 by class with ground truth; empty where it knows none of them."""
    matches: Matches | None


def foretell(context: Context) -> TeacherWorth | None:
    """Bound the gain by teacher and start, measured on the validation images.

    None where there are several teachers, which may together be better than each, or where the teacher knows none of
    the data's classes. An attempt that goes on takes what an earlier one has found here.
    """
    if context.spec.teacher.ensemble:
        return None
    kept = context.lasting_folder("worth") / f"{sha256_of(train.weights(context))}.json"
    try:
        found = _read(kept) or _measured(context)
    except Exception as error:
        if explain(error, context.inputs.device).code != "out_of_memory":
            raise
        context.journal.log("what the teacher can be worth is not foretold: memory ran out", "warning")
        return None
    if found is None:
        return None
    atomic_write(kept, found.model_dump_json().encode())
    advice = "" if found.most >= LITTLE else _UNTRAINED if found.basis == "none" else _ADVICE
    context.journal.log(
        f"the teacher's worth: {found.sentence}{advice}",
        "warning" if found.most < LITTLE else "info",
        most=found.most,
        basis=found.basis,
    )
    return found


_ADVICE = (
    " That is a share of noise: a better teacher, or more images without labels for this one to label, can bring more."
)
_UNTRAINED = " It has learned next to nothing of this data: train it longer, or take another."


def _read(path: Path) -> TeacherWorth | None:
    try:
        return TeacherWorth.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _measured(context: Context) -> TeacherWorth | None:
    spec = context.spec
    conditions = train.conditions(context, train.imgsz(spec, Role.TEACHER), split="val")
    teacher = measure(train.weights(context), conditions)
    if not teacher.aps:
        return None
    plain = None
    if spec.student.weights is not None:
        start = context.inputs.weights[spec.student.weights]
        plain = measure(start, dataclasses.replace(conditions, imgsz=spec.training.imgsz))
    context.heartbeat.beat("setup")
    known = plain if plain is not None and plain.aps else None
    return bound(
        teacher.aps,
        None if known is None else known.aps,
        basis="none" if known is None else "start",
        interval=headroom(teacher.matches, None if known is None else known.matches, seed=spec.training.seed),
    )


def measure(weights: Path, conditions: Conditions) -> MeasuredClasses:
    """Measure how well published *weights* find each class."""
    from retort.training.evaluate import evaluate

    kept: list[Matches] = []
    found = evaluate(weights, dataclasses.replace(conditions, on_matches=kept.append)).accuracy
    if found is None:
        return MeasuredClasses({}, None)
    return MeasuredClasses({name: scores["ap"] for name, scores in found.per_class.items()}, kept[0] if kept else None)


def headroom(teacher: Matches | None, plain: Matches | None, *, seed: int) -> Resampled | None:
    """Return the interval of the teacher's lead over *plain*, by bootstrap.

    Without *plain* it is the interval of all that the teacher reaches.
    """
    from retort.training.bootstrap import best_of, class_aps, interval

    if teacher is None:
        return None
    theirs = class_aps(teacher, seed)
    beside = [] if plain is None else [class_aps(plain, seed)]
    leads = best_of([theirs, *beside]) - best_of(beside)
    return interval(leads, level=LEVEL, num_images=teacher.num_images)


def spread(teacher: Matches, control: Matches, student: Matches, *, seed: int) -> tuple[Resampled, Resampled]:
    """Return the intervals of the teacher's lead and of the student's excess.

    The lead is over the control; the excess is over the better of teacher and control in each class.
    """
    from retort.training.bootstrap import best_of, class_aps, interval

    taught, plain, ours = (class_aps(one, seed) for one in (teacher, control, student))
    best = best_of([taught, plain])
    return (
        interval(best - best_of([plain]), level=LEVEL, num_images=teacher.num_images),
        interval(best_of([ours]) - best, level=LEVEL, num_images=teacher.num_images),
    )
