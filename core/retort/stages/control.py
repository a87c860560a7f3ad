"""Train the control: the same student, seed and schedule, without distillation."""

from __future__ import annotations

from typing import Any

from retort.names import Role
from retort.spec import JobSpec
from retort.stages import cost as costs
from retort.stages.context import Context
from retort.stages.fitting import fit, plan

after = "distill"


def applies(spec: JobSpec) -> bool:
    """Only where the spec asks for it."""
    return spec.control


def cost(spec: JobSpec) -> float:
    """Return its share of the run."""
    return costs.training(spec.student.model, spec.training.epochs)


def run(context: Context) -> dict[str, Any]:
    """Train it."""
    return fit(context, plan(context, Role.CONTROL))
