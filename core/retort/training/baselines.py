"""Measure the start and the teacher of a training before its first epoch."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from retort.constants import MAP, MAP50
from retort.errors import ModelError
from retort.training import comm, teachers
from retort.training.checkpoint import Checkpointer
from retort.training.config import Trainer
from retort.training.evaluate import Conditions, run_validation

Values = dict[str, float | None]
DIGITS = 5
"""To which upstream rounds what it measures in training, and by which the best epoch is chosen."""


class ComparedTrainer(Trainer, Protocol):
    """Interface of a trainer whose start and teacher are measured."""

    recovery: Checkpointer
    teacher_weights: Path | None
    best_fitness: float | None
    best_epoch: int
    best_metrics: Values


def measure(trainer: ComparedTrainer) -> None:
    """Measure start and teacher, and report both as epoch 0.

    The start is published already.
    """
    trainer.best_epoch = 0
    trainer.best_metrics = trainer.start_metrics = _score(trainer, trainer.recovery.best(0), trainer.args.imgsz)
    trainer.best_fitness = trainer.start_metrics[MAP]
    if trainer.teacher_weights is not None:
        _measure_teacher(trainer, trainer.teacher_weights)
    trainer.callback.metric(0, {**trainer.start_metrics, **trainer.teacher_metrics})


def _measure_teacher(trainer: ComparedTrainer, teacher: Path) -> None:
    """Measure the teacher once, for comparison with the student's validation curve."""
    try:
        found = _score(trainer, teacher, trainer.plan.teaching.imgsz or trainer.args.imgsz)
    except ModelError as error:  # feature losses teach across classes too
        trainer.callback.log(f"the teacher's mAP is not measured: {teacher.name}: {error.message}", "warning")
    else:
        trainer.teacher_metrics = {name.replace("val/", "teacher/"): found[name] for name in (MAP50, MAP)}


def _score(trainer: ComparedTrainer, weights: Path, imgsz: int) -> Values:
    """Return what *weights* reach on the validation images, by the names of metrics.

    Raises:
        ModelError: the weights cannot be loaded, or know none of the data's classes.

    """
    plan = trainer.plan
    conditions = Conditions(
        data_yaml=plan.data_yaml, imgsz=imgsz, device=plan.device, batch=plan.val_batch,
        loader_workers=plan.loader_workers, on_batch=trainer.poll,
    )  # fmt: skip
    shared = comm.size() == 1 and imgsz == trainer.args.imgsz  # ranks share the images of the trainer's loader
    loader: Any = trainer.test_loader if shared else None
    with TemporaryDirectory() as folder, comm.alone():  # a rank measures while the others wait
        box = run_validation(teachers.load(weights), conditions, Path(folder), loader=loader).metrics.box
    found = {"val/precision": box.mp, "val/recall": box.mr, MAP50: box.map50, MAP: box.map}
    return {name: round(float(value), DIGITS) for name, value in found.items()}
