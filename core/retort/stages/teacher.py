"""Which weights teach: those that the job trained, or those that the spec names."""

from __future__ import annotations

from pathlib import Path

from retort.names import Role
from retort.spec import JobSpec
from retort.stages.answers import TrainedNetwork
from retort.stages.context import Context


def weights(context: Context) -> Path:
    """Return the path of the teacher's weights."""
    trained = context.found("train_teacher", TrainedNetwork)
    if trained is not None:
        return context.workdir / trained.weights
    name = context.spec.teacher.weights
    assert name is not None
    return context.inputs.weights[name]


def imgsz(spec: JobSpec, role: Role) -> int:
    """Return the side of the images that a network of *role* sees."""
    own = spec.teacher.imgsz if role is Role.TEACHER else None
    return own or spec.training.imgsz
