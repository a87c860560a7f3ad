"""Train one network for a stage: what the training tells becomes journal lines, and its outcome an artifact."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.journal import Level
from retort.names import Role
from retort.stages.context import Context

if TYPE_CHECKING:
    from retort.spec import DistillationSpec
    from retort.training.trainer import Plan

Values = Mapping[str, float | None]


class JournalWatcher:
    """Passes on what one training says."""

    def __init__(self, context: Context, role: Role, teacher: Values | None) -> None:
        self._context = context
        self._role = role
        self._teacher = dict(teacher or {})

    def metric(self, step: int, values: Values) -> None:
        """Write down the values of one epoch."""
        self._context.journal.metric(self._role, step, values)

    def checkpoint(self, epoch: int, path: Path, metrics: Values) -> None:
        """Keep a copy of a checkpoint, announce it, and set the student beside its teacher."""
        kept = self._context.artifact(f"checkpoints/{self._role}-epoch-{epoch:04d}{path.suffix}")
        part = kept.with_name(f"{kept.name}.part")
        shutil.copyfile(path, part)
        part.replace(kept)
        journal = self._context.journal
        journal.checkpoint(self._role, epoch, kept.relative_to(self._context.workdir), metrics)
        compared = [f"{name} {_shown(value)} of {_shown(self._teacher.get(name))}" for name, value in metrics.items()
                    if name in self._teacher]  # fmt: skip
        if compared:
            message = f"{self._role} beside teacher at epoch {epoch}: {', '.join(compared)}"
            journal.log(message, student=dict(metrics), teacher=self._teacher)

    def progress(self, fraction: float) -> None:
        """Say how much of this training is done."""
        self._context.progress(fraction)

    def log(self, message: str, level: Level = "info", **data: Any) -> None:
        """Say something that a person may want to know."""
        self._context.journal.log(message, level, **data)

    def stop_requested(self) -> bool:
        """Whether to stop at this batch."""
        return self._context.stop.is_set()


def fit(
    context: Context,
    plan: Plan,
    *,
    teacher: Path | None = None,
    distillation: DistillationSpec | None = None,
    beside: Values | None = None,
) -> dict[str, Any]:
    """Carry out *plan*, and publish what comes out as ``<role>.pt``; *beside* are the teacher's metrics."""
    from retort.training import trainer

    watcher = JournalWatcher(context, plan.role, beside)
    fitted = trainer.fit(plan, watcher, teacher=teacher, distillation=distillation)
    name = f"{plan.role}.pt"
    part = context.artifact(f"{name}.part")
    shutil.copyfile(fitted.weights, part)
    part.replace(context.artifact(name))
    metrics = {key: value for key, value in fitted.metrics.items() if key.startswith("val/")}
    published = context.publish(name, plan.role, epoch=fitted.best_epoch, metrics=metrics)
    shutil.rmtree(plan.folder, ignore_errors=True)
    return {
        "model": plan.model,
        "weights": published["path"],
        "metrics": fitted.metrics,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
    }


def plan(context: Context, role: Role) -> Plan:
    """Return the plan of the student or its control: the same but for the role."""
    from retort.training.trainer import Plan

    student = context.spec.student
    return Plan(
        role=role,
        model=student.model,
        weights=None if student.weights is None else context.inputs.weights[student.weights],
        data_yaml=context.inputs.data_yaml,
        epochs=context.spec.training.epochs,
        training=context.spec.training,
        folder=context.folder(role),
        device=context.inputs.device,
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
