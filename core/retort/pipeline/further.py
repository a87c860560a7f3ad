"""Train further networks of a job, one after another, each of them an extra."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort import files
from retort.constants import MAP, MAP50, Role
from retort.errors import Stopped
from retort.pipeline.answers import TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import Extras
from retort.pipeline.train import JournalCallback, Values, fit
from retort.spec import DistillationSpec
from retort.spec.outcome import ExtraOutcome

if TYPE_CHECKING:
    from retort.training.config import TrainConfig


@dataclasses.dataclass(frozen=True, slots=True)
class FitArguments:
    """Arguments of one training."""

    plan: TrainConfig
    teacher: Path | None = None
    distillation: DistillationSpec | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class FurtherTraining:
    """One more network to train."""

    name: str
    """Of its files, without an ending."""
    title: str
    """As people are told of it."""
    role: Role
    prefix: str
    """Of the names of its curves."""
    prepare: Callable[[], FitArguments]
    metadata: Mapping[str, Any]
    """Of the published file."""
    cost: float = 1.0
    """Relative to the others'."""


@dataclasses.dataclass(frozen=True, slots=True)
class FurtherNetworks:
    """Networks of further trainings, and the outcomes."""

    found: dict[str, TrainedNetwork]
    """By name; without those that failed."""
    outcomes: tuple[ExtraOutcome, ...]
    complete: bool
    """False where the job finishes early, so that no more were trained."""


def train_each(context: Context, trainings: Sequence[FurtherTraining]) -> FurtherNetworks:
    """Train all of them, each once, whatever attempts have ended in between.

    Raises:
        Stopped: the run was asked to stop.

    """
    folder, tried = context.lasting_folder(context.stage), Extras(context)
    found: dict[str, TrainedNetwork] = {}
    done, whole = 0.0, sum(one.cost for one in trainings)
    for one in trainings:
        if context.finishes_early() or context.needed("distill", TrainedNetwork).finished_early:
            return FurtherNetworks(found, tuple(tried.outcomes), complete=False)
        make = partial(_once, context, one, folder, (done / whole, one.cost / whole))
        try:
            trained = tried(one.title, make, None)
        except Stopped:
            if context.stop.is_set():
                raise
            return FurtherNetworks(found, tuple(tried.outcomes), complete=False)
        if trained is not None:
            found[one.name] = trained
        done += one.cost
    return FurtherNetworks(found, tuple(tried.outcomes), complete=True)


def _once(context: Context, one: FurtherTraining, folder: Path, part: tuple[float, float]) -> TrainedNetwork:
    """Train one more network; one that an earlier attempt has trained is only announced again."""
    kept = folder / f"{one.name}.json"
    if kept.is_file() and context.artifact(f"{one.name}.pt").is_file():
        known = TrainedNetwork.model_validate_json(kept.read_bytes())
        context.publish(f"{one.name}.pt", one.role, **one.metadata)
        return known
    wanted = one.prepare()
    plan = dataclasses.replace(wanted.plan, folder=context.lasting_folder(one.name))
    trained = fit(
        context, plan, teacher=wanted.teacher, distillation=wanted.distillation,
        callback=FurtherCallback(context, plan, one.prefix, folder, part), name=f"{one.name}.pt",
        metadata=one.metadata,
    )  # fmt: skip
    files.atomic_write(kept, trained.model_dump_json().encode())
    return trained


class FurtherCallback(JournalCallback):
    """Callback of one more training, which records only its mAP, under a prefix."""

    tells_health = False

    def __init__(self, context: Context, plan: Any, prefix: str, folder: Path, part: tuple[float, float]) -> None:
        super().__init__(context, plan)
        self._prefix = prefix
        self._folder = folder
        self._done, self._share = part

    def metric(self, step: int, values: Values) -> None:
        """Record the mAP of one epoch."""
        told = {f"{self._prefix}/{name}": values[name] for name in (MAP50, MAP) if name in values}
        if step and told:
            self._context.journal.metric(Role.JOB, step, told)

    def checkpoint(self, epoch: int, path: Path, metrics: Values) -> None:
        """Announce no checkpoint: only the published student's are for use."""

    def health(self, finding: Any) -> None:
        """Ignore the verdict: only the published student's health is reported."""

    def progress(self, fraction: float) -> None:
        """Report the finished part of all further trainings."""
        self._context.progress(self._done + self._share * fraction)

    def finish_requested(self) -> bool:
        """Return False: a training cut short could not be compared."""
        return False

    def stop_requested(self) -> bool:
        """Return True to stop the training at this batch.

        It stops for good, or because the job finishes early.
        """
        return self._context.stop.is_set() or self._context.finishes_early()

    def also_saved(self) -> list[str]:
        """Return the files that the trainings before this one have left."""
        workdir = self._context.workdir
        left = [path.relative_to(workdir).as_posix() for path in sorted(self._folder.glob("*.json"))]
        return [*left, *(one.path for one in self._context.published)]
