"""Measure teachers, start, student and control with the same code on the same images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.constants import USUAL_DETECTIONS, Role
from retort.errors import Diverged
from retort.model_ref import title
from retort.pipeline import latency, progress, train
from retort.pipeline.answers import ArmTraining, Evaluated, Repetitions, SeedRun, TrainedArms, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import Extras, for_leaves
from retort.pipeline.failures import explain
from retort.report.foretold import spread
from retort.report.judged import publish_curves, publish_mistakes
from retort.report.mistakes import SCORE_FROM
from retort.spec import FurtherTeacher, JobSpec
from retort.spec.arms import ABOUT, SOURCES, MeasuredArm
from retort.spec.curves import CURVES
from retort.spec.figures import (
    FurtherTeacherFigures,
    NetworkFigures,
    RoleFigures,
    Roles,
    Scores,
    SeedScores,
    TimedFigures,
    TrainedFigures,
)
from retort.spec.mistakes import MISTAKES
from retort.spec.verdict import LEVEL, Resampled
from retort.stages.distill import train_config

if TYPE_CHECKING:
    from retort.training.benchmark import Speed
    from retort.training.bootstrap import Matches
    from retort.training.evaluate import Evaluation, FoundImage

    OnFound = Callable[[Sequence[FoundImage]], None] | None

after = "arms"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job is measured
    """Return True: the stage applies to every job."""
    return True


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run.

    It is about half an epoch each, with the timing.
    """
    students = [spec.student.label] * ((2 if spec.control else 1) + len(spec.arms))
    teachers = [
        (progress.teacher(spec), spec.teacher.imgsz),
        *((one.weights, one.imgsz) for one in spec.teacher.ensemble),
    ]
    taught = sum(progress.forward(name, progress.scale(imgsz, spec)) for name, imgsz in teachers)
    return (taught + sum(map(progress.forward, students))) / 2


def run(context: Context) -> Evaluated:
    """Return the measured figures by role."""
    tried = for_leaves(context)
    whole = tried.around()
    networks = _student(context) | whole(
        "networks beside the student", partial(_others, context, tried), {}, listed=False
    )
    measured: dict[str, RoleFigures] = {}
    matches: dict[str, Matches] = {}
    boxes: dict[str, Sequence[FoundImage]] = {}
    for name, one in networks.items():
        keep = partial(boxes.__setitem__, name) if name in _LOOKED_AT else None
        measure = partial(_figures, context, one, partial(matches.__setitem__, name), keep)
        found = measure() if name == Role.STUDENT else tried(f"evaluation of the {name}", measure, None)
        if found is not None:
            measured[name] = found
        context.progress(len(measured) / (len(networks) + len(context.spec.teacher.ensemble) + 1))
    letterboxes = {name: one.letterbox for name, one in measured.items()}
    tried(MISTAKES, partial(publish_mistakes, context, boxes), None, listed=False)
    tried(CURVES, partial(publish_curves, context, matches, boxes, letterboxes), None, listed=False)
    timed = partial(_speeds, context, {name: networks[name] for name in measured}, tried)
    figures = _with_speeds(measured, whole("latencies", timed, {}, listed=False))
    roles = Roles.model_validate({name: one for name, one in figures.items() if name not in ABOUT})
    tried("comparison of teacher and student", partial(warn, context, roles), None, listed=False)
    worth = partial(_worth, context, matches)
    most, excess = tried("resampling of the teacher's worth", worth, (None, None), listed=False)
    return Evaluated(
        roles=roles,
        most=most,
        excess=excess,
        ensemble=tuple(_further(context, one, tried) for one in context.spec.teacher.ensemble),
        arms=whole("further arms", partial(_measured_arms, context, figures, matches, tried), (), listed=False),
        repeats=whole("further seeds", partial(_repeated, context, tried), (), listed=False),
        resampled=tried("resampling of the images", partial(_resampled, context, matches, Role.CONTROL), None),
        extras=tuple(tried.outcomes),
    )


_LOOKED_AT = (Role.STUDENT, Role.CONTROL, Role.TEACHER)
"""Networks whose mistakes are kept."""


START = "start"
"""The name beside the roles under which the weights are told from which student and control started."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Network:
    """A network that is measured, and what is known of it."""

    model: str
    weights: Path
    imgsz: int
    trained: TrainedNetwork | None = None
    """None where the job did not train it."""


def _student(context: Context) -> dict[str, _Network]:
    """Return the network on which alone the job depends."""
    student = context.needed("distill", TrainedNetwork)
    weights = context.workdir / student.weights
    return {Role.STUDENT: _Network(student.model, weights, context.spec.training.imgsz, student)}


def _others(context: Context, tried: Extras) -> dict[str, _Network]:
    """Return what is measured beside the student."""
    spec, side = context.spec, context.spec.training.imgsz
    control = context.found("control", TrainedNetwork)
    found = {
        str(Role.TEACHER): _Network(
            progress.teacher(spec), train.weights(context), train.imgsz(spec, Role.TEACHER),
            context.found("train_teacher", TrainedNetwork),
        )
    }  # fmt: skip
    if control is not None:
        found[Role.CONTROL] = _Network(control.model, context.workdir / control.weights, side, control)
    for one in _arms(context):
        found[one.arm] = _Network(one.network.model, context.workdir / one.network.weights, side, one.network)
    start = tried("weights of the start", partial(_start, context), None, listed=False)
    if start is not None:
        found[START] = _Network(context.needed("distill", TrainedNetwork).model, start, side)
    return found


def _start(context: Context) -> Path:
    """Build the network from which student and control started once more, and write it in published form."""
    from retort.training import models

    plan = train_config(context, Role.STUDENT)
    names = dict(enumerate(context.inputs.dataset.names))
    network = models.build_start(plan, names)
    path = context.folder("evaluating") / "start.pt"
    models.publish(network, path, names=names, imgsz=plan.training.imgsz)
    return path


def _arms(context: Context) -> tuple[ArmTraining, ...]:
    """Return the further arms that were trained."""
    trained = context.found("arms", TrainedArms)
    return () if trained is None else trained.runs


def _measured_arms(
    context: Context, figures: Mapping[str, Any], matches: Mapping[str, Matches], tried: Extras
) -> tuple[MeasuredArm, ...]:
    return tuple(_arm(context, one, figures[one.arm], matches, tried) for one in _arms(context) if one.arm in figures)


def _arm(
    context: Context, one: ArmTraining, found: Mapping[str, Any], matches: Mapping[str, Matches], tried: Extras
) -> MeasuredArm:
    def apart(network: Role) -> Resampled | None:
        make = partial(_resampled, context, matches, one.arm, network)
        return tried(f"resampling of the images for {network} and {one.arm}", make, None, listed=False)

    return MeasuredArm(
        arm=one.arm, figures=TrainedFigures.model_validate(found), path=Path(one.network.weights).name,
        training_s=one.network.duration_s, resampled=apart(Role.STUDENT),
        resampled_control=apart(Role.CONTROL) if one.arm in SOURCES else None,
    )  # fmt: skip


def _resampled(
    context: Context, matches: Mapping[str, Matches], other: str, network: str = Role.STUDENT
) -> Resampled | None:
    """Return how far the difference of *network* and *other* depends on the validation images."""
    from retort.training.bootstrap import resample

    ours, theirs = matches.get(network), matches.get(other)
    if ours is None or theirs is None:
        return None
    context.heartbeat.beat("setup")
    return resample(ours, theirs, level=LEVEL, seed=context.spec.training.seed)


def _worth(context: Context, matches: Mapping[str, Matches]) -> tuple[Resampled | None, Resampled | None]:
    """Return how far the lead of the teacher, and what the student makes of it, depend on the images."""
    teacher, control, student = map(matches.get, (Role.TEACHER, Role.CONTROL, Role.STUDENT))
    if context.spec.teacher.ensemble or teacher is None or control is None or student is None:
        return None, None
    context.heartbeat.beat("setup")
    return spread(teacher, control, student, seed=context.spec.training.seed)


def _repeated(context: Context, tried: Extras) -> tuple[SeedScores, ...]:
    """Judge the networks of each further seed; their speed is that of the first."""
    trained = context.found("repeat", Repetitions)
    runs = () if trained is None else trained.runs
    judged = [tried(f"evaluation of seed {one.seed}", partial(_judged, context, one), None) for one in runs]
    return tuple(one for one in judged if one is not None)


def _judged(context: Context, one: SeedRun) -> SeedScores:
    student = _scores(context, one.student)
    control = None if one.control is None else _scores(context, one.control)
    return SeedScores(
        seed=one.seed,
        student=student,
        control=control,
        student_last=_last(context, one.student, student),
        control_last=None if one.control is None or control is None else _last(context, one.control, control),
    )


def _last(context: Context, trained: TrainedNetwork, best: Scores) -> Scores | None:
    """Return what the last epoch reaches; on a split that has chosen no epoch that is no question."""
    if train.split(context) == "test":
        return None
    return best if trained.best_epoch == trained.epochs else trained.last


def _further(context: Context, one: FurtherTeacher, tried: Extras) -> FurtherTeacherFigures:
    side, model = one.imgsz or context.spec.training.imgsz, title(one.weights)
    measure = partial(_measure, context, _Network(one.weights, context.inputs.weights[one.weights], side))
    measured = tried(f"evaluation of {model}", measure, None)
    found = None if measured is None else measured.accuracy
    return FurtherTeacherFigures(
        model=model, weight=one.weight, imgsz=side,
        map50=None if found is None else found.map50, map=None if found is None else found.map,
    )  # fmt: skip


def _measure(
    context: Context, one: _Network, *, on_matches: Callable[[Matches], None] | None = None, on_found: OnFound = None
) -> Evaluation:
    """Measure one network; a teacher that knows none of the data's classes, and so teaches features, has no mAP."""
    from retort.training.evaluate import evaluate

    context.check()
    usual, name = train.conditions(context, one.imgsz, split=train.split(context)), one.weights.name
    wanted = dataclasses.replace(usual, on_matches=on_matches, on_found=on_found, found_from=SCORE_FROM)
    try:
        found = evaluate(one.weights, wanted)
    except Exception as error:
        if explain(error, context.inputs.device).code != "out_of_memory":
            raise
        context.journal.log(f"{name} is measured with small batches: memory ran out", "warning")
        found = evaluate(one.weights, dataclasses.replace(wanted, batch=1))
    context.heartbeat.beat("setup")
    if found.accuracy is None:
        context.journal.log(f"the mAP of {name} is not measured: it knows none of the data's classes", "warning")
    elif found.accuracy.max_det > USUAL_DETECTIONS:
        context.journal.log(
            f"{name}: an image has {found.accuracy.max_det} objects, so that as many detections of each are judged; "
            f"{USUAL_DETECTIONS} are usual"
        )
    return found


def _speeds(context: Context, networks: Mapping[str, _Network], tried: Extras) -> Mapping[str, TimedFigures]:
    """Time all networks in one sitting, or else each alone.

    One that cannot be timed alone either is left out.
    """
    found = tried("latencies in one sitting", partial(_timed, context, networks), None, listed=False)
    if found is not None:
        return found
    alone: dict[str, TimedFigures] = {}
    for name, one in networks.items():
        alone |= tried(f"latency of the {name}", partial(_timed, context, {name: one}), {})
    return alone


def _with_speeds(measured: Mapping[str, RoleFigures], speeds: Mapping[str, TimedFigures]) -> dict[str, dict[str, Any]]:
    """Return all that is known of each network, with its speed where that was measured."""
    known = {name: {} if (speed := speeds.get(name)) is None else speed.model_dump() for name in measured}
    return {name: {**one.model_dump(), **known[name]} for name, one in measured.items()}


def _timed(context: Context, networks: Mapping[str, _Network]) -> dict[str, TimedFigures]:
    from retort.training.evaluate import Published, speeds

    def alive() -> None:
        context.check()
        context.heartbeat.beat("step")

    published = {name: Published(one.weights, one.imgsz) for name, one in networks.items()}
    found = speeds(published, context.inputs.device, picture=latency.picture(context), on_round=alive)
    return {name: TimedFigures(**dataclasses.asdict(speed)) for name, speed in found.items()}


def _figures(
    context: Context, one: _Network, on_matches: Callable[[Matches], None], on_found: OnFound
) -> RoleFigures:  # fmt: skip
    """Measure a network in its role; its speed is measured beside the others'."""
    measured = figures(
        title(one.model), one.weights.name, _measure(context, one, on_matches=on_matches, on_found=on_found), None
    )
    if one.trained is None:
        told = {} if one.weights.name != f"{START}.pt" else {"command": None}  # which is not published
        return RoleFigures(**{**dict(measured), **told}, imgsz=one.imgsz, epochs=None)
    best = Scores(map50=measured.map50 or 0.0, map=measured.map or 0.0)
    return RoleFigures(
        **dict(measured), imgsz=one.imgsz, epochs=one.trained.epochs, best_epoch=one.trained.best_epoch,
        last=_last(context, one.trained, best),
    )  # fmt: skip


def figures(model: str, name: str, found: Evaluation, speed: Speed | None) -> NetworkFigures:
    """Return the measured figures of *model*, as results hold them.

    Its weights are called *name*; it has no *speed* where it could not be timed.

    Raises:
        Diverged: a figure is not finite.

    """
    accuracy: dict[str, Any] = {"map50": None, "map": None, "per_class": {}, "by_size": {}}
    if found.accuracy is not None:
        refuse_nonsense(name, found.accuracy.map50, found.accuracy.map)
        accuracy = dataclasses.asdict(found.accuracy)
    return NetworkFigures(
        model=model, num_parameters=found.num_parameters, gflops=found.gflops, size_bytes=found.size_bytes,
        **accuracy, **({"latency_ms": None} if speed is None else dataclasses.asdict(speed)),
    )  # fmt: skip


def _scores(context: Context, trained: TrainedNetwork) -> Scores:
    from retort.training import models
    from retort.training.evaluate import accuracy

    context.check()
    path = context.workdir / trained.weights
    conditions = train.conditions(context, context.spec.training.imgsz, split=train.split(context))
    found = accuracy(models.load(path), conditions)
    refuse_nonsense(path.name, found.map50, found.map)
    return Scores(map50=found.map50, map=found.map)


def refuse_nonsense(name: str, *figures: float | None) -> None:
    """Insist that final figures are numbers.

    Nothing is published beside others.

    Raises:
        Diverged: one is not finite.

    """
    if not all(figure is None or math.isfinite(figure) for figure in figures):
        raise Diverged(f"the mAP of {name} is not a finite number", hint="lower the learning rate")


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
