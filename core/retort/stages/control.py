"""Train the control: the same student, seed and schedule, without distillation."""

from __future__ import annotations

from typing import Any

from retort.errors import Stopped
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
    """Train it; where the job finishes early, drop it: trained for less long than planned, it would be no fair twin."""
    if context.finishes_early():
        return _dropped(context)
    try:
        return fit(context, plan(context, Role.CONTROL))
    except Stopped:
        if context.stop.is_set():
            raise
        return _dropped(context)


def _dropped(context: Context) -> dict[str, Any]:
    context.journal.log("the job finishes early: its control is not trained, so no gain will be claimed", "warning")
    return {"dropped": True}
