"""Measure candidate teachers beside the student, and say which should teach."""

from __future__ import annotations

import contextlib
import dataclasses
from functools import partial
from typing import TYPE_CHECKING, cast

from retort import model_ref
from retort.errors import ModelError
from retort.pipeline import latency, progress
from retort.pipeline.context import Context
from retort.pipeline.train import network
from retort.report import plain_student
from retort.report.advice import AdviceConditions, Measured, ModelFigures, Unusable, answer
from retort.report.foretold import MeasuredClasses
from retort.spec import AdviceSpec
from retort.spec.advised import AdviceData, AdviceResult, AdviceStudent, StepCost
from retort.spec.figures import NetworkFigures
from retort.stages import evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from retort.training.benchmark import Speed, StepBenchmark
    from retort.training.bootstrap import Matches
    from retort.training.evaluate import Conditions
    from retort.training.models import ModelSummary

after = None
task = "advise"


def applies(spec: AdviceSpec) -> bool:  # noqa: ARG001 - all advice is measured
    """Return True: the stage applies to every job."""
    return True


def cost(spec: AdviceSpec) -> float:
    """Return the stage's share of the run.

    It is about half an epoch for each network, and the student's training where one is asked for.
    """
    return sum(map(progress.forward, (spec.student.label, *spec.candidates))) / 2 + _training(spec)


def _training(spec: AdviceSpec) -> float:
    return 0.0 if spec.student_epochs is None else progress.training(spec.student.label, spec.student_epochs)


def run(context: Context) -> AdviceResult:
    """Return the advice, which is also published as ``advice.json``."""
    from retort.training.benchmark import StepBenchmark

    spec = cast("AdviceSpec", context.spec)
    names = dict(enumerate(context.inputs.dataset.names))
    start = None if spec.student.weights is None else context.inputs.weights[spec.student.weights]
    workspace = StepBenchmark(
        **network(context, spec.student), names=names, imgsz=spec.imgsz, batch=spec.batch, device=context.inputs.device
    )
    speeds = _speeds(context, spec, start)
    student = _student(context, spec, workspace, start, speeds)
    trained = _training(spec) / cost(spec)
    candidates = []
    for done, name in enumerate(spec.candidates, start=2):
        context.progress(trained + (1 - trained) * (done - 1) / (len(spec.candidates) + 1))
        candidates.append(_candidate(context, workspace, name, speeds, student))
    result = answer((student.about, student.figures), candidates, _conditions(context, spec))
    context.publish_document("advice.json", result)
    return result


@dataclasses.dataclass(frozen=True, slots=True)
class _Student:
    """The student as it starts and, where that was asked for, after a plain training."""

    about: AdviceStudent
    figures: ModelFigures
    """By which candidates are judged."""
    alone: plain_student.Alone
    """Beside which a teacher can be worth something."""


def _student(
    context: Context, spec: AdviceSpec, workspace: StepBenchmark, start: Path | None, speeds: Mapping[str, Speed]
) -> _Student:
    """Measure the student's starting weights, and train it without a teacher where that is asked for.

    Of random weights there is nothing to measure.
    """
    kept: list[Matches] = []
    measured = None if start is None else _measure(context, spec.student.label, start, speeds[_START], kept)
    shape = workspace.anatomy
    about = AdviceStudent(
        model=spec.student.label,
        weights=spec.student.weights,
        map50=measured.map50 if measured else None,
        map=measured.map if measured else None,
        per_class=measured.per_class if measured else {},
        num_parameters=shape.num_parameters,
        gflops=shape.gflops,
    )
    alone = plain_student.Alone.at_start(about, kept)
    if spec.student_epochs is not None:
        fitted, alone = plain_student.train(context, spec.student_epochs, alone, partial(_conditions_of, context))
        about = about.model_copy(update={"plain": fitted})
    figures = dataclasses.replace(
        _figures(context, spec.student.label, shape, measured), map=alone.map, per_class=alone.classes.aps
    )
    return _Student(about, figures, alone)


def _candidate(
    context: Context, workspace: StepBenchmark, name: str, speeds: Mapping[str, Speed], student: _Student
) -> Measured | Unusable:
    from retort.training import teachers
    from retort.training.teachers.base import BoxNetwork

    title, path = model_ref.title(name), context.inputs.weights[name]
    try:
        network = teachers.load(path)
    except ModelError as error:
        return Unusable(name, title, error.message)
    kept: list[Matches] = []
    shape = teachers.summarize(network, cast("AdviceSpec", context.spec).imgsz)
    measured = _measure(context, shape.architecture, path, speeds[name], kept)
    context.check()
    step = workspace.step(network, on_step=lambda: context.heartbeat.beat("step"))
    context.heartbeat.beat("setup")
    figures = _figures(context, title, shape, measured)
    classes = MeasuredClasses(dict(figures.per_class), kept[0] if kept else None)
    figures = dataclasses.replace(
        figures, step_ratio=step.ratio, worth=student.alone.under(classes), boxes_alone=isinstance(network, BoxNetwork)
    )
    cost = StepCost(alone_s=step.alone_s, taught_s=step.taught_s, num_steps=step.num_steps, ratio=step.ratio)
    return Measured(name, title, measured, cost, figures)


def _measure(context: Context, model: str, path: Path, speed: Speed, kept: list[Matches]) -> NetworkFigures:
    """Measure one network; what its figures are made of is added to *kept*."""
    from retort.training import evaluate as training_evaluate

    context.check()
    found = training_evaluate.evaluate(path, _conditions_of(context, kept))
    context.heartbeat.beat("setup")
    return evaluate.figures(model, path.name, found, speed)


def _conditions_of(context: Context, kept: list[Matches]) -> Conditions:
    from retort.training.evaluate import Conditions

    return Conditions(
        data_yaml=context.inputs.data_yaml,
        imgsz=cast("AdviceSpec", context.spec).imgsz,
        batch=context.val_batch,
        device=context.inputs.device,
        loader_workers=context.inputs.adjustments.loader_workers,
        data_name=context.inputs.data_name,
        on_batch=lambda: context.heartbeat.beat("step"),
        on_matches=kept.append,
    )


_START = ""
"""Where the student's speed stands among those of the candidates, none of which has an empty name."""


def _speeds(context: Context, spec: AdviceSpec, start: Path | None) -> dict[str, Speed]:
    """Time the student's weights and all candidates that can be loaded in turns, in one sitting."""
    from retort.training.evaluate import Published, speeds
    from retort.training.teachers import load

    def alive() -> None:
        context.check()
        context.heartbeat.beat("setup")

    paths = {name: context.inputs.weights[name] for name in spec.candidates}
    networks = {} if start is None else {_START: Published(start, spec.imgsz)}
    for name, path in paths.items():
        with contextlib.suppress(ModelError):  # told where it is measured
            load(path)
            networks[name] = Published(path, spec.imgsz)
    return speeds(networks, context.inputs.device, picture=latency.picture(context), on_round=alive)


def _figures(context: Context, title: str, shape: ModelSummary, measured: NetworkFigures | None) -> ModelFigures:
    wanted, known = set(context.inputs.dataset.names), set(shape.names)
    return ModelFigures(
        title=title,
        map=measured.map if measured else None,
        per_class={name: scores.ap for name, scores in measured.per_class.items()} if measured else {},
        num_parameters=shape.num_parameters,
        gflops=shape.gflops,
        attention=shape.attention,
        num_known=len(wanted & known),
        num_others=len(known - wanted),
        num_wanted=len(wanted),
    )


def _conditions(context: Context, spec: AdviceSpec) -> AdviceConditions:
    """Return under which conditions the figures hold."""
    from retort.training.device import device_name

    data = context.inputs.dataset
    dataset = AdviceData(names=tuple(data.names), num_val=data.num_val, num_shared=data.num_shared, digest=data.digest)
    return AdviceConditions(dataset, spec.imgsz, spec.batch, device_name(context.inputs.device))
