"""Measure teacher, student and control with the same code on the same validation images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retort.names import Role
from retort.spec import JobSpec
from retort.stages import cost as costs
from retort.stages import teacher
from retort.stages.context import Context

after = "control"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job is measured
    """Always."""
    return True


def cost(spec: JobSpec) -> float:
    """Return its share of the run: about half an epoch each, with the timing."""
    networks = [costs.teacher(spec), spec.student.model, *([spec.student.model] if spec.control else [])]
    return sum(costs.forward(name) for name in networks) / 2


def run(context: Context) -> dict[str, Any]:
    """Return what was measured by role."""
    weights: dict[Role, tuple[str, Path, int | None]] = {
        Role.TEACHER: (costs.teacher(context.spec), teacher.weights(context), _epochs(context, "train_teacher")),
        Role.STUDENT: _trained(context, "distill"),
    }
    if context.spec.control:
        weights[Role.CONTROL] = _trained(context, "control")
    roles: dict[str, dict[str, Any]] = {}
    for role, (model, path, epochs) in weights.items():
        context.check()
        roles[role] = {"model": model.removesuffix(".pt"), **_measure(context, path), "epochs": epochs}
        context.progress(len(roles) / len(weights))
    warn(context, roles)
    return {"roles": roles}


def _measure(context: Context, path: Path) -> dict[str, Any]:
    from retort.training.evaluation import evaluate

    training = context.spec.training
    found = evaluate(
        path,
        data_yaml=context.inputs.data_yaml,
        imgsz=training.imgsz,
        batch=training.batch,
        device=context.inputs.device,
    )
    return dataclasses.asdict(found)


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
            "take a better teacher, or train it longer",
            "warning",
            teacher=taught,
            student=student,
        )
