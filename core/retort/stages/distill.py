"""Train the student under its teacher."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from retort.constants import Role
from retort.labelling.dataset import data_yaml
from retort.pipeline import progress, train
from retort.pipeline.answers import TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import for_leaves
from retort.pipeline.train import fit, network
from retort.report.foretold import foretell
from retort.report.sample_epochs import publish_epochs
from retort.spec import JobSpec
from retort.spec.samples import SAMPLES

if TYPE_CHECKING:
    from retort.training.config import TeacherConfig, TrainConfig

after = "train_teacher"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job distils
    """Return True: the stage applies to every job."""
    return True


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run.

    It is a training, and the teacher's forward passes.
    """
    return progress.distilling(spec)


def run(context: Context) -> TrainedNetwork:
    """Say what the teacher can be worth, train the student, and look at sample images with its checkpoints."""
    tried = for_leaves(context)
    worth = tried("worth of the teacher", partial(foretell, context), None, listed=False)
    trained = fit(
        context,
        dataclasses.replace(train_config(context, Role.STUDENT), teaching=teacher_config(context)),
        teacher=train.weights(context),
        distillation=context.spec.distillation,
    )
    tried(SAMPLES, partial(publish_epochs, context), None, listed=False)
    return trained.model_copy(update={"worth": worth, "extras": (*tried.outcomes, *trained.extras)})


def teacher_config(context: Context) -> TeacherConfig:
    """Return the student's teacher configuration; the control has none."""
    from retort.training.config import ExtraTeacher, TeacherConfig, UnlabelledConfig

    spec, found = context.spec.teacher, context.inputs.unlabelled
    wanted = context.spec.data.unlabelled
    return TeacherConfig(
        weight=spec.weight,
        imgsz=spec.imgsz,
        further=tuple(
            ExtraTeacher(context.inputs.weights[one.weights], one.weight, one.imgsz) for one in spec.ensemble
        ),
        unlabelled=UnlabelledConfig(found.folder, wanted.ratio, found.digest)
        if found is not None and wanted is not None
        else None,
    )


def train_config(context: Context, role: Role) -> TrainConfig:
    """Return the training plan of the student or its control.

    Both are the same but for the role, pseudo-labels included.
    """
    from retort.training.config import TrainConfig

    training, trained = context.training, context.found("distill", TrainedNetwork)
    extension = context.inputs.adjustments.extension
    if trained is not None:  # its control, and what repeats it, learn in the same batches
        training = training.model_copy(update={"batch": trained.batch})
    return TrainConfig(
        role=role,
        **network(context, context.spec.student),
        data_yaml=data_yaml(context),
        epochs=context.training.epochs,
        training=training,
        extended=() if extension is None else extension.epochs,
        folder=context.lasting_folder(role),
        device=context.inputs.device,
        loader_workers=context.inputs.adjustments.loader_workers,
        val_batch=context.val_batch,
    )
