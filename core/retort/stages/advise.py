"""Measure candidate teachers beside the student, and say which should teach."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, cast

from retort import references
from retort.errors import ModelError
from retort.names import Role
from retort.spec import AdviceSpec
from retort.stages import cost as costs
from retort.stages.advising.answer import Measured, answer
from retort.stages.advising.rules import Figures
from retort.stages.context import Context
from retort.stages.evaluate import flat

if TYPE_CHECKING:
    from pathlib import Path

    from retort.training.anatomy import Anatomy
    from retort.training.step_cost import StepBench

after = None
task = "advise"


def applies(spec: AdviceSpec) -> bool:  # noqa: ARG001 - all advice is measured
    """Always."""
    return True


def cost(spec: AdviceSpec) -> float:
    """Return its share of the run: about half an epoch for each network."""
    return sum(map(costs.forward, (spec.student.model, *spec.candidates))) / 2


def run(context: Context) -> dict[str, Any]:
    """Return the advice, which is also published as ``advice.json``."""
    from retort.training.step_cost import StepBench

    spec = cast("AdviceSpec", context.spec)
    names = dict(enumerate(context.inputs.dataset.names))
    start = None if spec.student.weights is None else context.inputs.weights[spec.student.weights]
    bench = StepBench(
        spec.student.model, weights=start, names=names, imgsz=spec.imgsz, batch=spec.batch, device=context.inputs.device
    )
    student = _student(context, spec, bench, start)
    candidates = []
    for done, name in enumerate(spec.candidates, start=2):
        context.progress((done - 1) / (len(spec.candidates) + 1))
        candidates.append(_candidate(context, spec, bench, name))
    result = {**answer(student, candidates), **_conditions(context, spec)}
    _write(context, result)
    return result


def _student(
    context: Context, spec: AdviceSpec, bench: StepBench, start: Path | None
) -> tuple[dict[str, Any], Figures]:
    """Measure the weights that the student would start from; from random ones there is nothing to measure."""
    measured = None if start is None else _measure(context, spec, start)
    shape = bench.anatomy
    figures = _figures(context, spec.student.model, shape, measured)
    about = {
        "model": spec.student.model,
        "weights": spec.student.weights,
        "map50": measured["map50"] if measured else None,
        "map": figures.map,
        "per_class": measured["per_class"] if measured else {},
        "num_parameters": shape.num_parameters,
        "gflops": shape.gflops,
    }
    return about, figures


def _candidate(context: Context, spec: AdviceSpec, bench: StepBench, name: str) -> Measured:
    from retort.training.anatomy import anatomy
    from retort.training.networks import load

    about: dict[str, Any] = {"weights": name, "title": references.title(name)}
    path = context.inputs.weights[name]
    try:
        network = load(path)
    except ModelError as error:
        return {**about, "error": error.message}, None
    measured = _measure(context, spec, path)
    shape = anatomy(network, spec.imgsz)
    context.check()
    step = bench.step(network, on_step=lambda: context.pulse.beat("step"))
    context.pulse.beat("setup")
    figures = _figures(context, about["title"], shape, measured)
    figures = dataclasses.replace(figures, step_ratio=step.ratio)
    classes = {"known": figures.num_known, "others": figures.num_others, "wanted": figures.num_wanted}
    shown = {**about, "model": shape.architecture, **measured, "attention": shape.attention}
    return {**shown, "classes": classes, "step": {**dataclasses.asdict(step), "ratio": step.ratio}}, figures


def _measure(context: Context, spec: AdviceSpec, path: Path) -> dict[str, Any]:
    from retort.training.evaluation import evaluate
    from retort.training.judge import Conditions

    context.check()
    conditions = Conditions(
        data_yaml=context.inputs.data_yaml,
        imgsz=spec.imgsz,
        batch=spec.batch,
        device=context.inputs.device,
        loader_workers=context.inputs.adjustments.loader_workers,
        on_batch=lambda: context.pulse.beat("step"),
    )
    found = evaluate(path, conditions)
    context.pulse.beat("setup")
    return flat(path.name, found)


def _figures(context: Context, title: str, shape: Anatomy, measured: dict[str, Any] | None) -> Figures:
    wanted = {_plain(name) for name in context.inputs.dataset.names}
    known = {_plain(name) for name in shape.names}
    return Figures(
        title=title,
        map=measured["map"] if measured else None,
        per_class={name: values["ap"] for name, values in measured["per_class"].items()} if measured else {},
        num_parameters=shape.num_parameters,
        gflops=shape.gflops,
        attention=shape.attention,
        num_known=len(wanted & known),
        num_others=len(known - wanted),
        num_wanted=len(wanted),
    )


def _plain(name: str) -> str:
    """Compare names of classes as distillation does."""
    return name.strip().casefold()


def _conditions(context: Context, spec: AdviceSpec) -> dict[str, Any]:
    """Return under which conditions the figures hold."""
    from retort.training.devices import name_of

    data = context.inputs.dataset
    dataset = {
        "names": list(data.names),
        "num_val": data.num_val,
        "num_shared": data.num_shared,
        "digest": data.digest,
    }
    return {"dataset": dataset, "imgsz": spec.imgsz, "batch": spec.batch, "device": name_of(context.inputs.device)}


def _write(context: Context, result: dict[str, Any]) -> None:
    part = context.artifact("advice.json.part")
    part.write_text(json.dumps(result, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(context.artifact("advice.json"))
    context.publish("advice.json", Role.JOB, "application/json")
