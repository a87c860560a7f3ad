"""Train one network for a stage: events to the journal, its checkpoint kept."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from retort.constants import HEATMAPS, Role
from retort.data import verification
from retort.errors import TransientError
from retort.files import atomic_write
from retort.pipeline import extension
from retort.pipeline.answers import CheckedNetworks, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import for_leaves
from retort.pipeline.machine import STEPS, MachineUse, gpus_of
from retort.protocol.journal import Level
from retort.spec import JobSpec
from retort.spec.figures import Scores
from retort.spec.hardware import Optimisation
from retort.training.config import TrainCallback

if TYPE_CHECKING:
    from retort.spec import DistillationSpec, NetworkSpec
    from retort.training.config import RuleFinding, TrainConfig, TrainResult
    from retort.training.evaluate import Conditions, Split

Values = Mapping[str, float | None]


class JournalCallback(TrainCallback):
    """Callback that writes one training's messages to the journal."""

    tells_health = True
    """Whether what it says of the distillation's health is kept."""

    def __init__(self, context: Context, plan: TrainConfig) -> None:
        self._context = context
        self._plan = plan
        self._role = plan.role
        self._announced = 0
        self.optimisations: tuple[Optimisation, ...] = ()
        self._machine = MachineUse(_gpus(context))
        self._use: Values = {}

    def metric(self, step: int, values: Values) -> None:
        """Record the values of one epoch, with what it took of the machine."""
        use, self._use = self._use, {}
        self._context.journal.metric(self._role, step, {**values, **use})

    def trained(self, num_images: int, num_batches: int, seconds: float) -> None:
        """Measure the machine while it has just trained."""
        self._use = {STEPS: float(num_batches), **self._machine.of_epoch(num_images, seconds)}

    def checkpoint(self, epoch: int, path: Path, metrics: Values) -> None:
        """Keep and announce a checkpoint of the student.

        It is set beside its teacher.
        """
        if self._role is not Role.STUDENT:
            return
        name = f"checkpoints/{self._role}-epoch-{epoch:04d}{path.suffix}"
        kept = _keep(path, self._context.artifact(name))
        journal = self._context.journal
        journal.checkpoint(self._role, epoch, kept.relative_to(self._context.workdir), metrics)
        if not any(name.startswith("teacher/") for name in metrics):
            return  # a pilot has stopped the distillation
        sides = [f"{_shown(metrics.get(f'val/{name}'))} of {_shown(metrics.get(f'teacher/{name}'))} {name}"
                 for name in ("mAP50", "mAP50-95")]  # fmt: skip
        journal.log(f"student beside teacher at epoch {epoch}: {', '.join(sides)}", epoch=epoch, metrics=dict(metrics))

    def saved(self, epoch: int) -> None:
        """Announce the saved state every few epochs, to resume from elsewhere."""
        if epoch % self._plan.training.checkpoint_every == 0 or epoch == self._plan.epochs:
            self.announce_saved()

    def announce_saved(self) -> None:
        """Announce the newest state, unless the state is announced already."""
        from retort.training import checkpoint

        found = checkpoint.latest_files(self._plan.folder)
        if found is not None and found[0] > self._announced:
            self._announced = found[0]
            workdir = self._context.workdir
            files = [path.relative_to(workdir).as_posix() for path in found[1]]
            self._context.saved(found[0], [*files, *self.also_saved()])

    def also_saved(self) -> list[str]:
        """Return further files of the stage that a resumed attempt needs."""
        return []

    def alive(self, section: str) -> None:
        """Send a heartbeat."""
        self._context.heartbeat.beat(section)

    def progress(self, fraction: float) -> None:
        """Report the finished part of this training."""
        self._context.progress(fraction)

    def log(self, message: str, level: str = "info", **data: Any) -> None:
        """Log a message that a person may want to read."""
        self._context.journal.log(message, cast("Level", level), **data)

    def health(self, finding: RuleFinding) -> None:
        """Write down a verdict that has changed."""
        self._context.journal.health(**asdict(finding))

    def heatmaps(self, epoch: int, path: Path, size: tuple[int, int]) -> None:
        """Keep and announce the picture of an epoch; no result depends on it."""
        if not self.tells_health:
            return
        name = f"{HEATMAPS}epoch-{epoch:04d}.jpg"
        kept = _keep(path, self._context.artifact(name))
        relative, (width, height) = kept.relative_to(self._context.workdir), size
        about = {"epoch": epoch, "width": width, "height": height}
        self._context.journal.artifact(name, self._role, relative.as_posix(), "image/jpeg", about)

    def optimised(self, found: tuple[Optimisation, ...]) -> None:
        """Keep what speeds the training up for its outcome."""
        self.optimisations = found

    def stop_requested(self) -> bool:
        """Return True to stop the training at this batch.

        A control that is cut short would be no twin of its student.
        """
        return self._context.stop.is_set() or (self._role is Role.CONTROL and self._context.finishes_early())

    def finish_requested(self) -> bool:
        """Return True to end the student's training here.

        The others' are not cut short.
        """
        return self._role is Role.STUDENT and self._context.finishes_early()


def fit(
    context: Context,
    plan: TrainConfig,
    *,
    teacher: Path | None = None,
    distillation: DistillationSpec | None = None,
    callback: JournalCallback | None = None,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> TrainedNetwork:
    """Train by *plan*, and publish the network as *name*.

    *name* is ``<role>.pt`` if left out; *metadata* is told beside what is known of every network.
    """
    callback = callback or JournalCallback(context, plan)
    extension.lay_out(context.workdir, plan)
    fitted = train_network(context, plan, callback, teacher=teacher, distillation=distillation)
    name = name or f"{plan.role}.pt"
    _keep(fitted.weights, context.artifact(name))
    metrics = {key: value for key, value in fitted.metrics.items() if key.startswith("val/")}
    dataset = context.inputs.dataset
    published = context.publish(
        name, plan.role, epoch=fitted.best_epoch, metrics=metrics, model=plan.model, imgsz=plan.training.imgsz,
        data={"names": list(dataset.names), "digest": dataset.digest}, **(metadata or {}),
    )  # fmt: skip
    if callback.tells_health and (portraits := plan.folder / "health.npz").exists():
        _keep(portraits, context.artifact(portraits.name))
        context.publish(portraits.name, plan.role)
    tried = for_leaves(context)
    if context.keeps_last and name == f"{plan.role}.pt" and plan.role is not Role.TEACHER:
        tried(f"last state of {name}", partial(extension.keep, context.workdir, plan), None, listed=False)
    last = tried(f"evaluation of the last epoch of {name}", partial(_last, context, plan, fitted), None, listed=False)
    return TrainedNetwork(
        model=plan.model,
        weights=published,
        metrics=fitted.metrics,
        epochs=fitted.epochs,
        planned_epochs=plan.epochs,
        batch=plan.training.batch,
        best_epoch=fitted.best_epoch,
        stopped_by=fitted.stopped_by,
        duration_s=fitted.duration_s,
        last=last,
        optimisations=callback.optimisations,
        extras=tuple(tried.outcomes),
    )


def train_network(
    context: Context,
    plan: TrainConfig,
    callback: JournalCallback,
    *,
    teacher: Path | None = None,
    distillation: DistillationSpec | None = None,
) -> TrainResult:
    """Train by *plan* on the GPUs of the job, and verify the data."""
    from retort.training import trainer
    from retort.training.distributed import launcher

    gpus = context.spec.resources.gpus
    try:
        if gpus > 1:
            fitted = launcher.fit(plan, callback, ranks=gpus, teacher=teacher, distillation=distillation)
        else:
            fitted = trainer.fit(plan, callback, teacher=teacher, distillation=distillation)
    except BaseException:
        with contextlib.suppress(OSError, TransientError):
            callback.announce_saved()
        raise
    verification.verify(context.workdir, lambda: context.heartbeat.beat("checkpoint"))
    return fitted


def _gpus(context: Context) -> list[str]:
    """Return the names of the GPUs that the job trains on."""
    from retort.training import environment

    names = environment.variables().get("CUDA_VISIBLE_DEVICES")
    return gpus_of(context.inputs.device, context.spec.resources.gpus, names)


def _keep(path: Path, target: Path) -> Path:
    """Copy a file to *target*, which appears whole or not at all, and is on the disk when this returns."""
    atomic_write(target, path.read_bytes())
    return target


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def weights(context: Context) -> Path:
    """Return the path of the teacher's weights."""
    trained = context.found("train_teacher", TrainedNetwork)
    if trained is not None:
        return context.workdir / trained.weights
    name = context.spec.teacher.weights
    assert name is not None
    return context.inputs.weights[name]


def split(context: Context) -> Split:
    """Return the split of the final figures: ``test`` where there is one."""
    return "test" if context.inputs.dataset.num_test else "val"


def conditions(context: Context, imgsz: int, *, split: Split) -> Conditions:
    """Return under which conditions networks are judged, which are the same for all."""
    from retort.training.evaluate import Conditions

    return Conditions(
        data_yaml=context.inputs.data_yaml,
        imgsz=imgsz,
        batch=context.val_batch,
        split=split,
        device=context.inputs.device,
        loader_workers=context.inputs.adjustments.loader_workers,
        data_name=context.inputs.data_name,
        single_cls=bool(context.inputs.dataset.merged),
        on_batch=lambda: context.heartbeat.beat("step"),
    )


def _last(context: Context, plan: TrainConfig, fitted: TrainResult) -> Scores | None:
    """Judge the network of the last epoch, where the data has no split that has chosen no epoch."""
    from retort.training import models
    from retort.training.evaluate import accuracy

    if plan.role is Role.TEACHER or fitted.last is None or fitted.best_epoch == fitted.epochs:
        return None
    if split(context) == "test":
        return None
    found = accuracy(models.load(fitted.last), conditions(context, plan.training.imgsz, split="val"))
    return Scores(map50=found.map50, map=found.map)


def network(context: Context, spec: NetworkSpec) -> dict[str, Any]:
    """Return the arguments that build the network of *spec*."""
    checked, name = context.found("check", CheckedNetworks), spec.label
    if spec.model is None and checked is not None and spec is context.spec.student:
        name = checked.student
    return {
        "model": name,
        "weights": None if spec.weights is None else context.inputs.weights[spec.weights],
        "definition": context.inputs.definitions.get(spec.model or ""),
        "from_weights": spec.model is None,
    }


def imgsz(spec: JobSpec, role: Role) -> int:
    """Return the side of the images that a network of *role* sees."""
    own = spec.teacher.imgsz if role is Role.TEACHER else None
    return own or spec.training.imgsz
