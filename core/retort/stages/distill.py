"""Train the student under its teacher."""

from __future__ import annotations

from typing import Any

from retort.names import MAP, MAP50, Role
from retort.spec import JobSpec
from retort.stages import cost as costs
from retort.stages import teacher
from retort.stages.context import Context
from retort.stages.fitting import fit, plan

after = "train_teacher"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job distils
    """Always."""
    return True


def cost(spec: JobSpec) -> float:
    """Return its share of the run: a training, and the teacher's forward passes."""
    epochs = spec.training.epochs
    return costs.training(spec.student.model, epochs) + epochs * costs.forward(costs.teacher(spec))


def run(context: Context) -> dict[str, Any]:
    """Measure the teacher on the job's data first: the student is set beside it at every checkpoint."""
    weights = teacher.weights(context)
    beside = _measure(context)
    context.check()
    result = fit(
        context,
        plan(context, Role.STUDENT),
        teacher=weights,
        distillation=context.spec.distillation,
        beside=beside,
    )
    return {**result, "teacher": beside}


def _measure(context: Context) -> dict[str, float | None]:
    """Return the teacher's mAP on the validation images, as published."""
    from retort.training.evaluation import evaluate

    spec, inputs = context.spec, context.inputs
    found = evaluate(
        teacher.weights(context),
        data_yaml=inputs.data_yaml,
        imgsz=spec.training.imgsz,
        batch=spec.training.batch,
        device=inputs.device,
    )
    values: dict[str, float | None] = {MAP50: found.map50, MAP: found.map}
    if "train_teacher" not in context.results:
        context.journal.metric(Role.TEACHER, 0, values)
    return values
