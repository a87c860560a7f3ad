"""Measure teachers, student and control with the same code on the same validation images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.constants import Role
from retort.errors import Diverged
from retort.model_ref import title
from retort.pipeline import progress, train
from retort.pipeline.answers import Evaluated, Repetitions, SeedRun, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import Extras, for_leaves
from retort.pipeline.failures import explain
from retort.spec import FurtherTeacher, JobSpec
from retort.spec.figures import FurtherTeacherFigures, NetworkFigures, RoleFigures, Roles, Scores, SeedScores
from retort.spec.verdict import LEVEL, Resampled

if TYPE_CHECKING:
    from retort.training.bootstrap import Matches
    from retort.training.evaluate import Conditions, Evaluation

after = "repeat"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job is measured
    """Return True: the stage applies to every job."""
    return True


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run.

    It is about half an epoch each, with the timing.
    """
    students = [spec.student.model] * (2 if spec.control else 1)
    teachers = [
        (progress.teacher(spec), spec.teacher.imgsz),
        *((one.weights, one.imgsz) for one in spec.teacher.ensemble),
    ]
    taught = sum(progress.forward(name, progress.scale(imgsz, spec)) for name, imgsz in teachers)
    return (taught + sum(map(progress.forward, students))) / 2


def run(context: Context) -> Evaluated:
    """Return the measured figures by role."""
    weights: dict[Role, tuple[str, Path, int | None]] = {Role.STUDENT: _trained(context, "distill")}
    weights[Role.TEACHER] = (progress.teacher(context.spec), train.weights(context), _epochs(context, "train_teacher"))
    if context.found("control", TrainedNetwork) is not None:
        weights[Role.CONTROL] = _trained(context, "control")
    found: dict[str, RoleFigures] = {}
    matches: dict[Role, Matches] = {}
    tried = for_leaves(context)
    for role, (model, path, epochs) in weights.items():
        context.check()
        side, keep = train.imgsz(context.spec, role), partial(matches.__setitem__, role)
        measure = partial(_measure, context, title(model), path, side, epochs, on_matches=keep)
        measured = measure() if role is Role.STUDENT else tried(f"evaluation of the {role}", measure, None)
        if measured is not None:
            found[role] = measured
        context.progress(len(found) / (len(weights) + len(context.spec.teacher.ensemble)))
    roles = Roles.model_validate({role: figures.model_dump() for role, figures in found.items()})
    warn(context, roles)
    return Evaluated(
        roles=roles,
        ensemble=tuple(_further(context, one, tried) for one in context.spec.teacher.ensemble),
        repeats=_repeated(context, tried),
        resampled=tried("resampling of the images", partial(_resampled, context, matches), None),
        extras=tuple(tried.outcomes),
    )


def _resampled(context: Context, matches: Mapping[Role, Matches]) -> Resampled | None:
    """Return how far the difference of student and control depends on the validation images."""
    from retort.training.bootstrap import resample

    student, control = matches.get(Role.STUDENT), matches.get(Role.CONTROL)
    if student is None or control is None:
        return None
    context.heartbeat.beat("setup")
    return resample(student, control, level=LEVEL, seed=context.spec.training.seed)


def _repeated(context: Context, tried: Extras) -> tuple[SeedScores, ...]:
    """Judge the networks of each further seed; their speed is that of the first."""
    trained = context.found("repeat", Repetitions)
    runs = () if trained is None else trained.runs
    judged = [tried(f"evaluation of seed {one.seed}", partial(_judged, context, one), None) for one in runs]
    return tuple(one for one in judged if one is not None)


def _judged(context: Context, one: SeedRun) -> SeedScores:
    student = _scores(context, one.student)
    return SeedScores(
        seed=one.seed, student=student, control=None if one.control is None else _scores(context, one.control)
    )


def _further(context: Context, one: FurtherTeacher, tried: Extras) -> FurtherTeacherFigures:
    context.check()
    side, model = one.imgsz or context.spec.training.imgsz, title(one.weights)
    measure = partial(_measure, context, model, context.inputs.weights[one.weights], side, None)
    measured = tried(f"evaluation of {model}", measure, None)
    return FurtherTeacherFigures(
        model=model, weight=one.weight, imgsz=side,
        map50=None if measured is None else measured.map50, map=None if measured is None else measured.map,
    )  # fmt: skip


def _measure(
    context: Context, model: str, path: Path, imgsz: int, epochs: int | None, *,
    on_matches: Callable[[Matches], None] | None = None,
) -> RoleFigures:  # fmt: skip
    """Measure one network; a teacher that knows none of the data's classes, and so teaches features, has no mAP."""
    from retort.training.evaluate import evaluate

    wanted = dataclasses.replace(_conditions(context, imgsz), on_matches=on_matches)
    try:
        found = evaluate(path, wanted)
    except Exception as error:
        if explain(error, context.inputs.device).code != "out_of_memory":
            raise
        context.journal.log(f"{path.name} is measured with small batches: memory ran out", "warning")
        found = evaluate(path, dataclasses.replace(wanted, batch=1))
    context.heartbeat.beat("setup")
    if found.accuracy is None:
        context.journal.log(f"the mAP of {path.name} is not measured: it knows none of the data's classes", "warning")
    measured = figures(model, path.name, found)
    return RoleFigures(**dict(measured), imgsz=imgsz, epochs=epochs)


def figures(model: str, name: str, found: Evaluation) -> NetworkFigures:
    """Return the measured figures of *model*, as results hold them.

    Its weights are called *name*.

    Raises:
        Diverged: a figure is not finite.

    """
    accuracy: dict[str, Any] = {"map50": None, "map": None, "per_class": {}, "by_size": {}}
    if found.accuracy is not None:
        refuse_nonsense(name, found.accuracy.map50, found.accuracy.map)
        accuracy = dataclasses.asdict(found.accuracy)
    return NetworkFigures(
        model=model, num_parameters=found.num_parameters, gflops=found.gflops, size_bytes=found.size_bytes,
        **accuracy, **dataclasses.asdict(found.speed),
    )  # fmt: skip


def _scores(context: Context, trained: TrainedNetwork) -> Scores:
    from retort.training import models
    from retort.training.evaluate import accuracy

    context.check()
    path = context.workdir / trained.weights
    found = accuracy(models.load(path), _conditions(context, context.spec.training.imgsz))
    refuse_nonsense(path.name, found.map50, found.map)
    return Scores(map50=found.map50, map=found.map)


def _conditions(context: Context, imgsz: int) -> Conditions:
    from retort.training.evaluate import Conditions

    return Conditions(
        data_yaml=context.inputs.data_yaml,
        imgsz=imgsz,
        batch=context.val_batch,
        device=context.inputs.device,
        loader_workers=context.inputs.adjustments.loader_workers,
        data_name=context.inputs.data_name,
        on_batch=lambda: context.heartbeat.beat("step"),
    )


def refuse_nonsense(name: str, *figures: float | None) -> None:
    """Insist that final figures are numbers.

    Nothing is published beside others.

    Raises:
        Diverged: one is not finite.

    """
    if not all(figure is None or math.isfinite(figure) for figure in figures):
        raise Diverged(f"the mAP of {name} is not a finite number", hint="lower the learning rate")


def _trained(context: Context, stage: str) -> tuple[str, Path, int | None]:
    trained = context.needed(stage, TrainedNetwork)
    return trained.model, context.workdir / trained.weights, trained.epochs


def _epochs(context: Context, stage: str) -> int | None:
    trained = context.found(stage, TrainedNetwork)
    return None if trained is None else trained.epochs


def warn(context: Context, roles: Roles) -> None:
    """Warn when the teacher has nothing to teach."""
    taught, student = None if roles.teacher is None else roles.teacher.map, roles.student.map
    if taught is not None and taught < student:
        context.journal.log(
            f"the teacher ({taught:.3f} mAP50-95) is weaker than the student ({student:.3f}): "
            "take a better teacher, or train it longer; retort advise compares candidates",
            "warning",
            teacher=taught,
            student=student,
        )
