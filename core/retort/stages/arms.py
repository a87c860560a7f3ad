"""Train further controls, each of which differs from the control in one thing alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from retort.constants import Role
from retort.labelling.ahead import ask_ahead
from retort.labelling.dataset import num_pseudo_labelled
from retort.pipeline import progress, train
from retort.pipeline.answers import ArmTraining, TrainedArms, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.further import FitArguments, FurtherTraining, train_each
from retort.spec import DataSpec, DistillationSpec, JobSpec
from retort.spec.arms import ABOUT, ArmName
from retort.spec.outcome import ExtraOutcome
from retort.stages import teach_ahead
from retort.stages.distill import decided_distillation, teacher_config, train_config

if TYPE_CHECKING:
    from retort.training.config import TeacherConfig, TrainConfig

after = "repeat"
extra = True

STOPPED = "nothing is distilled, by the pilot, so that there is nothing to compare it with"
EARLY = "the job was finished early, before this arm was trained"
NO_PACE = "no control was trained, whose pace says for how many epochs there is time"
NO_LABELS = "no image was labelled by the teacher, so that it would be the control again"
STUDENT_ASSIGNS = "the student assigns its labels itself under this teacher, so that it would be the control again"


def applies(spec: JobSpec) -> bool:
    """Return True where the spec asks for further arms."""
    return bool(spec.arms)


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run: that of all its trainings."""
    return sum(_cost(spec, arm) for arm in spec.arms)


def _cost(spec: JobSpec, arm: ArmName) -> float:
    taught = spec.training.epochs * progress.forward(spec.student.label)
    costs = {
        "class_weights": progress.plain(spec),
        "assignment": progress.distilling(spec),
        "placebo": progress.plain(spec) + taught,
        "self": progress.plain(spec) + taught,
        "equal_time": progress.distilling(spec),
        "labelled_only": progress.plain(spec),
        "without_unlabelled": progress.distilling(spec.model_copy(update={"data": _without_unlabelled(spec)})),
    }
    return costs[arm]


def run(context: Context) -> TrainedArms:
    """Train the arms of the spec, but for those that would show nothing here."""
    refused = {arm: why for arm in context.spec.arms if (why := _why_not(context, arm)) is not None}
    wanted = [arm for arm in context.spec.arms if arm not in refused]
    made = train_each(context, [_training(context, arm) for arm in wanted])
    if not made.complete:
        told = {one.name for one in made.outcomes}
        refused |= {arm: EARLY for arm in wanted if _name(arm) not in told}
    for arm, why in refused.items():
        context.journal.log(f"the arm {arm} is not trained: {why}", "warning")
    skipped = [ExtraOutcome(name=_name(arm), status="skipped", reason=why) for arm, why in refused.items()]
    return TrainedArms(
        runs=tuple(ArmTraining(arm=arm, network=made.found[_name(arm)]) for arm in wanted if _name(arm) in made.found),
        extras=(*made.outcomes, *skipped),
    )


def _name(arm: ArmName) -> str:
    return f"arm-{arm.replace('_', '-')}"


def _why_not(context: Context, arm: ArmName) -> str | None:
    """Return why an arm would show nothing, as only the run can know."""
    if context.finishes_early() or context.needed("distill", TrainedNetwork).finished_early:
        return EARLY
    if arm == "labelled_only":  # which no distillation comes into
        return None if num_pseudo_labelled(context) else NO_LABELS
    if decided_distillation(context) is None:
        return STOPPED
    if arm == "equal_time" and _longer(context) is None:
        return NO_PACE
    return STUDENT_ASSIGNS if arm == "assignment" and not _teacher_assigns(context) else None


def _training(context: Context, arm: ArmName) -> FurtherTraining:
    return FurtherTraining(
        name=_name(arm),
        title=_name(arm),
        role=Role.CONTROL,
        prefix=_name(arm),
        prepare=partial(_prepared, context, arm),
        metadata={"arm": arm},
        cost=_cost(context.spec, arm),
    )


def _prepared(context: Context, arm: ArmName) -> FitArguments:
    makers: dict[ArmName, Callable[[Context, TrainConfig], FitArguments]] = {
        "class_weights": _class_weights, "assignment": _assignment, "placebo": _placebo, "self": _self,
        "equal_time": _equal_time,
        "labelled_only": _labelled_only, "without_unlabelled": _student_without_unlabelled,
    }  # fmt: skip
    context.journal.log(f"the arm {arm}: {ABOUT[arm]}")
    plan = dataclasses.replace(train_config(context, Role.CONTROL), watched=False)
    return makers[arm](context, plan)


def _class_weights(context: Context, plan: TrainConfig) -> FitArguments:
    return FitArguments(dataclasses.replace(plan, class_balance=_distillation(context).class_balance))


def _assignment(context: Context, plan: TrainConfig) -> FitArguments:
    # Images without labels reach the terms alone, of which there are none.
    teaching = dataclasses.replace(teacher_config(context), further=(), unlabelled=None)
    plan = dataclasses.replace(plan, teaching=teaching, terms=False)
    return FitArguments(plan, train.weights(context), _distillation(context))


def _distillation(context: Context) -> DistillationSpec:
    """Return the student's distillation, without which no arm is trained."""
    found = decided_distillation(context)
    assert found is not None, "an arm beside a distillation that was stopped is not trained"
    return found


def _placebo(context: Context, plan: TrainConfig) -> FitArguments:
    """Put a network with nothing to teach in the place of each teacher, without giving it labels to assign anew."""
    from retort.training.arms import gives_boxes

    distillation = _assigned_alike(context)
    folder, config = context.lasting_folder("placebo"), teacher_config(context)
    first = _placebo_of(context, plan, train.weights(context), folder / "teacher.pt")
    teaching: TeacherConfig = dataclasses.replace(
        config,
        as_boxes=gives_boxes(train.weights(context)),
        further=tuple(
            dataclasses.replace(
                one,
                weights=_placebo_of(context, plan, one.weights, folder / f"teacher-{number}.pt"),
                as_boxes=gives_boxes(one.weights),
            )
            for number, one in enumerate(config.further, start=2)
        ),
        cache=None if config.cache is None else _placebo_cache(context, first, folder / "cache.npz"),
    )
    return FitArguments(dataclasses.replace(plan, teaching=teaching), first, distillation)


def _self(context: Context, plan: TrainConfig) -> FitArguments:
    """Put the average of the student's weights in the place of all teachers.

    It counts as knowing the classes that they know, and has the terms that they can teach: those of boxes alone, where
    they were asked ahead of time.
    """
    from retort.training import arms

    config, first = teacher_config(context), train.weights(context)
    known = arms.known_classes([first, *(one.weights for one in config.further)])
    teaching = dataclasses.replace(config, weight=1.0, imgsz=None, further=(), cache=None, ema=True, ema_classes=known)
    boxes = config.cache is not None or arms.gives_boxes(first)
    distillation = arms.terms_under(_assigned_alike(context), boxes=boxes)
    return FitArguments(dataclasses.replace(plan, teaching=teaching), None, distillation)


def _assigned_alike(context: Context) -> DistillationSpec:
    """Return the job's distillation for another teacher.

    That one assigns labels only where the job's teacher does.
    """
    distillation = _distillation(context)
    assigns = _teacher_assigns(context)
    return distillation if assigns else distillation.model_copy(update={"assignment": "student"})


def _placebo_of(context: Context, plan: TrainConfig, teacher: Path, path: Path) -> Path:
    from retort.training import arms

    if not path.exists():  # another attempt's: a state is of the same bytes only
        arms.write_placebo(plan, dict(enumerate(context.inputs.dataset.names)), teacher, path)
    return path


def _placebo_cache(context: Context, placebo: Path, path: Path) -> Path:
    """Ask the *placebo* ahead of time, as the teacher was asked."""
    if not path.exists():
        ask_ahead(context, placebo, teach_ahead.images(context), target=path)
    return path


def _equal_time(context: Context, plan: TrainConfig) -> FitArguments:
    """Give the control the epochs for which there is time, and the whole of its schedule over them."""
    epochs = _longer(context)
    assert epochs is not None, "an arm whose length is not known is not trained"
    return FitArguments(dataclasses.replace(plan, epochs=epochs, training=plan.training.model_copy(
        update={"epochs": epochs, "patience": 0}
    )))  # fmt: skip


def _labelled_only(context: Context, plan: TrainConfig) -> FitArguments:
    """Leave the pseudo-labelled images out, and go through the labelled ones as often as gives as many steps.

    Epochs, schedule and measurements stay the control's: in each epoch every labelled image is there several times,
    augmented differently. With epochs of its own length it would learn for a fraction of the control's steps, and that
    would count for what the labels brought.
    """
    samples = context.inputs.dataset.num_train + num_pseudo_labelled(context)
    data = context.inputs.data_yaml
    context.journal.log(f"{context.inputs.dataset.num_train} labelled images make up epochs of {samples}")
    return FitArguments(dataclasses.replace(plan, data_yaml=data, samples=samples, mixture=None))


def _student_without_unlabelled(context: Context, plan: TrainConfig) -> FitArguments:
    teaching = dataclasses.replace(teacher_config(context), unlabelled=None)
    return FitArguments(dataclasses.replace(plan, teaching=teaching), train.weights(context), _distillation(context))


def _without_unlabelled(spec: JobSpec) -> DataSpec:
    return spec.data.model_copy(update={"unlabelled": None})


def _longer(context: Context) -> int | None:
    """Return how many of the control's epochs take as long as the student's training took."""
    student, control = context.needed("distill", TrainedNetwork), context.found("control", TrainedNetwork)
    if control is None or not control.duration_s or not student.duration_s:
        return None
    return max(1, round(student.duration_s / (control.duration_s / control.epochs)))


def _teacher_assigns(context: Context) -> bool:
    """Return True if the student's labels are assigned by its teacher, which one asked ahead of time cannot do."""
    from retort.training import arms

    if context.spec.teacher.cache:
        return False
    names = dict(enumerate(context.inputs.dataset.names))
    plan = train_config(context, Role.CONTROL)
    return arms.assigns(plan, names, train.weights(context), _distillation(context))
