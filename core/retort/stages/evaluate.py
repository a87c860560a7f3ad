"""Measure teachers, student and control with the same code on the same validation images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.errors import Diverged
from retort.names import Role
from retort.references import title
from retort.spec import FurtherTeacher, JobSpec
from retort.stages import cost as costs
from retort.stages import teacher
from retort.stages.context import Context

if TYPE_CHECKING:
    from retort.training.evaluation import Evaluation
    from retort.training.judge import Conditions

after = "repeat"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job is measured
    """Always."""
    return True


def cost(spec: JobSpec) -> float:
    """Return its share of the run: about half an epoch each, with the timing."""
    students = [spec.student.model] * (2 if spec.control else 1)
    teachers = [(costs.teacher(spec), spec.teacher.imgsz), *((one.weights, one.imgsz) for one in spec.teacher.ensemble)]
    taught = sum(costs.forward(name, costs.scale(imgsz, spec)) for name, imgsz in teachers)
    return (taught + sum(map(costs.forward, students))) / 2


def run(context: Context) -> dict[str, Any]:
    """Return what was measured by role."""
    weights: dict[Role, tuple[str, Path, int | None]] = {
        Role.TEACHER: (costs.teacher(context.spec), teacher.weights(context), _epochs(context, "train_teacher")),
        Role.STUDENT: _trained(context, "distill"),
    }
    if context.spec.control and not context.results["control"].get("dropped"):
        weights[Role.CONTROL] = _trained(context, "control")
    roles: dict[str, dict[str, Any]] = {}
    for role, (model, path, epochs) in weights.items():
        context.check()
        side = teacher.imgsz(context.spec, role)
        measured = _measure(context, path, side)
        roles[role] = {"model": title(model), "imgsz": side, **measured, "epochs": epochs}
        context.progress(len(roles) / (len(weights) + len(context.spec.teacher.ensemble)))
    warn(context, roles)
    return {
        "roles": roles,
        "ensemble": [_further(context, one) for one in context.spec.teacher.ensemble],
        "repeats": [_repeated(context, one) for one in context.results.get("repeat", {}).get("runs", [])],
    }


def _repeated(context: Context, one: Mapping[str, Any]) -> dict[str, Any]:
    """Judge the networks of one more seed; their speed is that of the first."""
    found: dict[str, Any] = {"seed": one["seed"]}
    for role in (Role.STUDENT, Role.CONTROL):
        if role in one:
            context.check()
            judged = _accuracy(context, context.workdir / str(one[role]["weights"]), context.spec.training.imgsz)
            found[role] = {name: judged[name] for name in ("map50", "map")}
    return found


def _further(context: Context, one: FurtherTeacher) -> dict[str, Any]:
    context.check()
    side = one.imgsz or context.spec.training.imgsz
    measured = _measure(context, context.inputs.weights[one.weights], side)
    found = {name: measured[name] for name in ("map50", "map")}
    return {"model": title(one.weights), "weight": one.weight, "imgsz": side, **found}


def _measure(context: Context, path: Path, imgsz: int) -> dict[str, Any]:
    """Measure one network; a teacher that knows none of the data's classes, and so teaches features, has no mAP."""
    from retort.training.evaluation import evaluate

    found = evaluate(path, _conditions(context, imgsz))
    context.pulse.beat("setup")
    if found.accuracy is None:
        context.journal.log(f"the mAP of {path.name} is not measured: it knows none of the data's classes", "warning")
    return flat(path.name, found)


def flat(name: str, found: Evaluation) -> dict[str, Any]:
    """Return what was measured of the network *name* as results hold it.

    Raises:
        Diverged: a figure is not finite.

    """
    accuracy: dict[str, Any] = {"map50": None, "map": None, "per_class": {}, "by_size": {}}
    if found.accuracy is not None:
        refuse_nonsense(name, found.accuracy.map50, found.accuracy.map)
        accuracy = dataclasses.asdict(found.accuracy)
    weighs = {field: getattr(found, field) for field in ("num_parameters", "gflops", "size_bytes")}
    return {**accuracy, **weighs, **dataclasses.asdict(found.speed)}


def _accuracy(context: Context, path: Path, imgsz: int) -> dict[str, Any]:
    from retort.training import networks
    from retort.training.judge import accuracy

    found = accuracy(networks.load(path), _conditions(context, imgsz))
    refuse_nonsense(path.name, found.map50, found.map)
    return dataclasses.asdict(found)


def _conditions(context: Context, imgsz: int) -> Conditions:
    from retort.training.judge import Conditions

    return Conditions(
        data_yaml=context.inputs.data_yaml,
        imgsz=imgsz,
        batch=context.training.batch,
        device=context.inputs.device,
        loader_workers=context.inputs.adjustments.loader_workers,
        on_batch=lambda: context.pulse.beat("step"),
    )


def refuse_nonsense(name: str, *figures: float | None) -> None:
    """Insist that final figures are numbers: nothing is published beside others.

    Raises:
        Diverged: one is not finite.

    """
    if not all(figure is None or math.isfinite(figure) for figure in figures):
        raise Diverged(f"the mAP of {name} is not a finite number", hint="lower the learning rate")


def _trained(context: Context, stage: str) -> tuple[str, Path, int | None]:
    result = context.results[stage]
    return str(result["model"]), context.workdir / str(result["weights"]), int(result["epochs"])


def _epochs(context: Context, stage: str) -> int | None:
    result = context.results.get(stage)
    return None if result is None else int(result["epochs"])


def warn(context: Context, roles: Mapping[str, Mapping[str, Any]]) -> None:
    """Say aloud when the teacher has nothing to teach."""
    taught, student = roles[Role.TEACHER]["map"], roles[Role.STUDENT]["map"]
    if taught is not None and taught < student:
        context.journal.log(
            f"the teacher ({taught:.3f} mAP50-95) is weaker than the student ({student:.3f}): "
            "take a better teacher, or train it longer; retort advise compares candidates",
            "warning",
            teacher=taught,
            student=student,
        )
