"""Train the teacher on the job's own data."""

from __future__ import annotations

from retort.constants import Role
from retort.pipeline import progress
from retort.pipeline.answers import TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.train import fit, imgsz, network
from retort.spec import JobSpec

after = "check"


def applies(spec: JobSpec) -> bool:
    """Return True where the spec asks for a trained teacher."""
    return spec.teacher.train is not None


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run."""
    assert spec.teacher.train is not None
    train = spec.teacher.train
    return progress.training(train.label, train.epochs, scale=progress.scale(spec.teacher.imgsz, spec))


def run(context: Context) -> TrainedNetwork:
    """Train the teacher like the student, but for epochs, size and frozen layers.

    The epochs and the size of the images are the teacher's; ``freeze`` counts the student's layers.
    """
    from retort.training.config import TrainConfig

    train = context.spec.teacher.train
    assert train is not None
    plan = TrainConfig(
        role=Role.TEACHER,
        **network(context, train),
        data_yaml=context.inputs.data_yaml,
        epochs=train.epochs,
        training=context.training.model_copy(update={"imgsz": imgsz(context.spec, Role.TEACHER), "freeze": None}),
        folder=context.lasting_folder(Role.TEACHER),
        device=context.inputs.device,
        loader_workers=context.inputs.adjustments.loader_workers,
        val_batch=context.val_batch,
    )
    return fit(context, plan)
