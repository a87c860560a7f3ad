"""Train the student under its teacher."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from retort.constants import Role
from retort.labelling.dataset import data_yaml, num_pseudo_labelled
from retort.pipeline import progress, train
from retort.pipeline.answers import CachedTeaching, Piloted, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import for_leaves
from retort.pipeline.further import FitArguments
from retort.pipeline.train import fit, network
from retort.report import pilot as rule
from retort.report.foretold import foretell
from retort.report.sample_epochs import publish_epochs
from retort.spec import DistillationSpec, JobSpec
from retort.spec.samples import SAMPLES

if TYPE_CHECKING:
    from retort.training.config import MixtureConfig, TeacherConfig, TrainConfig

after = "pilot"


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job distils
    """Return True: the stage applies to every job."""
    return True


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run.

    It is a training, and the teacher's forward passes.
    """
    return progress.distilling(spec)


def run(context: Context) -> TrainedNetwork:
    """Train the student, after a bound of what its teacher can be worth.

    Then sample images are looked at with its checkpoints.
    """
    tried = for_leaves(context)
    worth = tried("worth of the teacher", partial(foretell, context), None, listed=False)
    taught = taught_arguments(context, train_config(context, Role.STUDENT))
    trained = fit(context, taught.plan, teacher=taught.teacher, distillation=taught.distillation)
    tried(SAMPLES, partial(publish_epochs, context), None, listed=False)
    return trained.model_copy(update={"worth": worth, "extras": (*tried.outcomes, *trained.extras)})


def taught_arguments(context: Context, plan: TrainConfig) -> FitArguments:
    """Return the arguments of a student's training.

    They are those of its control where the pilot has stopped the distillation.
    """
    distillation = decided_distillation(context)
    if distillation is None:
        return FitArguments(plan)
    return FitArguments(
        dataclasses.replace(plan, teaching=teacher_config(context)), train.weights(context), distillation
    )


def decided_distillation(context: Context) -> DistillationSpec | None:
    """Return the distillation of all students; None where the pilot allows none."""
    piloted = context.found("pilot", Piloted)
    return rule.followed("go" if piloted is None else piloted.figures.decision, context.spec.distillation)


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
        cache=None
        if (taught := context.found("teach_ahead", CachedTeaching)) is None
        else context.workdir / taught.path,
    )


def _mixture(context: Context) -> MixtureConfig | None:
    """Return how pseudo-labelled images share the batches.

    An extension counts from the first training's beginning, and so is past the ramp.
    """
    from retort.training.config import MixtureConfig

    wanted, extension = context.spec.pseudo_labels, context.inputs.adjustments.extension
    if wanted is None or not wanted.mixes or not num_pseudo_labelled(context):
        return None
    epochs = context.training.epochs if extension is None else extension.epochs[0]
    return MixtureConfig(
        share=wanted.labelled_share, burn_in=round(wanted.burn_in * epochs), ramp=round(wanted.ramp * epochs)
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
        mixture=_mixture(context),
        extended=() if extension is None else extension.epochs,
        folder=context.lasting_folder(role),
        device=context.inputs.device,
        loader_workers=context.inputs.adjustments.loader_workers,
        val_batch=context.val_batch,
    )
