"""Train the student under its teacher."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from retort.names import Role
from retort.spec import JobSpec
from retort.stages import cost as costs
from retort.stages import teacher
from retort.stages.answers import TrainedNetwork
from retort.stages.context import Context
from retort.stages.fitting import fit, plan

if TYPE_CHECKING:
    from retort.training.plan import Teaching

after = "train_teacher"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job distils
    """Always."""
    return True


def cost(spec: JobSpec) -> float:
    """Return its share of the run: a training, and the teacher's forward passes."""
    return costs.distilling(spec)


def run(context: Context) -> TrainedNetwork:
    """Train it."""
    return fit(
        context,
        dataclasses.replace(plan(context, Role.STUDENT), teaching=teaching(context)),
        teacher=teacher.weights(context),
        distillation=context.spec.distillation,
    )


def teaching(context: Context) -> Teaching:
    """Say how the student is taught; the control, whose plan is the same otherwise, knows none of it."""
    from retort.training.plan import FurtherTeacher, MoreImages, Teaching

    spec, found = context.spec.teacher, context.inputs.unlabelled
    wanted = context.spec.data.unlabelled
    return Teaching(
        weight=spec.weight,
        imgsz=spec.imgsz,
        further=tuple(
            FurtherTeacher(context.inputs.weights[one.weights], one.weight, one.imgsz) for one in spec.ensemble
        ),
        unlabelled=MoreImages(found.folder, wanted.ratio) if found is not None and wanted is not None else None,
    )
