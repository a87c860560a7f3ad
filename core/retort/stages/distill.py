"""Train the student under its teacher."""

from __future__ import annotations

from typing import Any

from retort.names import Role
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
    """Train it."""
    return fit(
        context,
        plan(context, Role.STUDENT),
        teacher=teacher.weights(context),
        distillation=context.spec.distillation,
    )
