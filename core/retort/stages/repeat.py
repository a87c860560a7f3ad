"""Repeat student and control with other seeds, for an interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from retort import files
from retort.constants import MAP, MAP50, Role
from retort.errors import Stopped
from retort.pipeline import progress, train
from retort.pipeline.answers import Repetitions, SeedRun, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import Extras
from retort.pipeline.train import JournalCallback, Values, fit
from retort.spec import JobSpec
from retort.stages.distill import teacher_config, train_config

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
    control = progress.training(spec.student.label, spec.training.epochs) if spec.control else 0.0
    return (spec.training.seeds - 1) * (progress.distilling(spec) + control)


@dataclasses.dataclass(frozen=True, slots=True)
class _SeedTask:
    """One more network to train."""

    seed: int
    role: Role

    @property
    def name(self) -> str:
        return f"{self.role}-seed-{self.seed}"


def run(context: Context) -> Repetitions:
    """Return the repeated trainings' weights by seed and role.

    There are none where the job finishes early.
    """
    roles = [Role.STUDENT, Role.CONTROL] if context.spec.control else [Role.STUDENT]
    first = context.spec.training.seed
    seeds = range(first + 1, first + context.spec.training.seeds)
    tasks = [_SeedTask(seed, role) for seed in seeds for role in roles]
    folder = context.lasting_folder("repeat")
    found: dict[_SeedTask, TrainedNetwork] = {}
    tried = Extras(context)
    for number, task in enumerate(tasks):
        if context.finishes_early() or context.needed("distill", TrainedNetwork).finished_early:
            return _dropped(context)
        part = (number / len(tasks), 1 / len(tasks))
        try:
            trained = tried(f"{task.role} of seed {task.seed}", partial(_once, context, task, folder, part), None)
        except Stopped:
            if context.stop.is_set():
                raise
            return _dropped(context)
        if trained is not None:
            found[task] = trained
    return Repetitions(runs=tuple(_pairs(seeds, found)), extras=tuple(tried.outcomes))


def _pairs(seeds: Iterable[int], found: Mapping[_SeedTask, TrainedNetwork]) -> Iterator[SeedRun]:
    """Yield what each seed gave; a seed without its student gave nothing to compare."""
    for seed in seeds:
        student = found.get(_SeedTask(seed, Role.STUDENT))
        if student is not None:
            yield SeedRun(seed=seed, student=student, control=found.get(_SeedTask(seed, Role.CONTROL)))


def _dropped(context: Context) -> Repetitions:
    context.journal.log("the job finishes early: it is not repeated with other seeds", "warning")
    return Repetitions(dropped=WHY, runs=())


def _once(context: Context, task: _SeedTask, folder: Path, part: tuple[float, float]) -> TrainedNetwork:
    """Train one more network; one that an earlier attempt has trained is only announced again."""
    name, kept = task.name, folder / f"{task.name}.json"
    if kept.is_file() and context.artifact(f"{name}.pt").is_file():
        known = TrainedNetwork.model_validate_json(kept.read_bytes())
        context.publish(f"{name}.pt", task.role, seed=task.seed)
        return known
    wanted = train_config(context, task.role)
    training = wanted.training.model_copy(update={"seed": task.seed})
    wanted = dataclasses.replace(wanted, training=training, folder=context.lasting_folder(name))
    callback = _SeedCallback(context, wanted, folder, part)
    if task.role is Role.STUDENT:
        wanted = dataclasses.replace(wanted, teaching=teacher_config(context))
        trained = fit(
            context, wanted, teacher=train.weights(context), distillation=context.spec.distillation,
            callback=callback, name=f"{name}.pt",
        )  # fmt: skip
    else:
        trained = fit(context, wanted, callback=callback, name=f"{name}.pt")
    files.atomic_write(kept, trained.model_dump_json().encode())
    return trained


class _SeedCallback(JournalCallback):
    """Tells of one repetition only what is to be compared, under names of its own."""

    tells_health = False

    def __init__(self, context: Context, plan: Any, folder: Path, part: tuple[float, float]) -> None:
        super().__init__(context, plan)
        self._seed = plan.training.seed
        self._folder = folder
        self._done, self._share = part

    def metric(self, step: int, values: Values) -> None:
        """Record the mAP of one epoch."""
        told = {f"seed-{self._seed}/{self._role}/{name}": values[name] for name in (MAP50, MAP) if name in values}
        if step and told:
            self._context.journal.metric(Role.JOB, step, told)

    def checkpoint(self, epoch: int, path: Path, metrics: Values) -> None:
        """Announce no checkpoint: only the first seed's checkpoints are for use."""

    def health(self, finding: Any) -> None:
        """Ignore the verdict: only the first seed's health is reported."""

    def progress(self, fraction: float) -> None:
        """Report the finished part of all repetitions."""
        self._context.progress(self._done + self._share * fraction)

    def finish_requested(self) -> bool:
        """Return False: a repetition cut short could not be compared."""
        return False

    def stop_requested(self) -> bool:
        """Return True to stop the training at this batch.

        It stops for good, or because the job finishes early.
        """
        return self._context.stop.is_set() or self._context.finishes_early()

    def also_saved(self) -> list[str]:
        """Return the files that the repetitions before this one have left."""
        workdir = self._context.workdir
        left = [path.relative_to(workdir).as_posix() for path in sorted(self._folder.glob("*.json"))]
        return [*left, *(one.path for one in self._context.published)]
