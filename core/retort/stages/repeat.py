"""Repeat student and control with other seeds, for an interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from retort.constants import Role
from retort.pipeline import progress
from retort.pipeline.answers import Repetitions, SeedRun, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.further import FitArguments, FurtherTraining, train_each
from retort.spec import JobSpec
from retort.stages.distill import decided_distillation, taught_arguments, train_config

after = "control"
extra = True

WHY = "the job was finished early, before it was repeated with other seeds"


def applies(spec: JobSpec) -> bool:
    """Return True where the spec asks for several seeds."""
    return spec.training.seeds > 1


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run.

    It is as often the student's training, and the control's.
    """
    control = progress.plain(spec) if spec.control else 0.0
    return (spec.training.seeds - 1) * (progress.distilling(spec) + control)


def run(context: Context) -> Repetitions:
    """Return the repeated trainings' weights by seed and role.

    There are none where the job finishes early.
    """
    twins = context.spec.control and decided_distillation(context) is not None
    roles = [Role.STUDENT, Role.CONTROL] if twins else [Role.STUDENT]
    first = context.spec.training.seed
    seeds = range(first + 1, first + context.spec.training.seeds)
    made = train_each(context, [_training(context, seed, role) for seed in seeds for role in roles])
    if not made.complete:
        context.journal.log("the job finishes early: it is not repeated with other seeds", "warning")
        return Repetitions(dropped=WHY, runs=())
    same = context.spec.control and not twins
    return Repetitions(runs=tuple(_pairs(seeds, made.found, same=same)), extras=made.outcomes)


def _training(context: Context, seed: int, role: Role) -> FurtherTraining:
    return FurtherTraining(
        name=_name(role, seed),
        title=f"{role} of seed {seed}",
        role=role,
        prefix=f"seed-{seed}/{role}",
        prepare=partial(_arguments, context, seed, role),
        metadata={"seed": seed},
        cost=progress.distilling(context.spec) if role is Role.STUDENT else progress.plain(context.spec),
    )


def _name(role: Role, seed: int) -> str:
    return f"{role}-seed-{seed}"


def _arguments(context: Context, seed: int, role: Role) -> FitArguments:
    wanted = train_config(context, role)
    wanted = dataclasses.replace(wanted, training=wanted.training.model_copy(update={"seed": seed}))
    return taught_arguments(context, wanted) if role is Role.STUDENT else FitArguments(wanted)


def _pairs(seeds: Iterable[int], found: Mapping[str, TrainedNetwork], *, same: bool) -> Iterator[SeedRun]:
    """Yield what each seed gave; a seed without its student gave nothing to compare.

    Where a pilot has stopped the distillation, each student is the *same* as its control.
    """
    for seed in seeds:
        student = found.get(_name(Role.STUDENT, seed))
        if student is not None:
            control = student if same else found.get(_name(Role.CONTROL, seed))
            yield SeedRun(seed=seed, student=student, control=control)
