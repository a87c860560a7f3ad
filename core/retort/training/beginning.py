"""How a training begins: joined to its teachers, anew or from a state, and watched over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from retort.errors import ModelError
from retort.training import parallel
from retort.training.batches.unlabelled import per_step
from retort.training.compiling import compile_layers
from retort.training.distillation.objective import Objective
from retort.training.distillation.student import distiller
from retort.training.distillation.tutor import candidates
from retort.training.evaluation import score
from retort.training.plan import Plan, Watcher
from retort.training.state import recovery


def accelerate(network: Any, plan: Plan, device: torch.device) -> None:
    """Let *network* compute as fast as *device* and *plan* allow; what it computes stays the same."""
    if device.type == "cpu":  # upstream does so on CUDA only; here a step takes a tenth less
        network.to(memory_format=torch.channels_last)
    if plan.training.compile:
        compile_layers(network)


def join(trainer: Any, teacher: Path) -> None:
    """Put student and teachers in the place of the student alone, and say what is distilled.

    Raises:
        ModelError: a teacher cannot be loaded.
        TeacherMismatch: it does not fit the student and the losses.

    """
    plan = trainer.plan
    first, *further = candidates(teacher, plan)
    trainer.model = distiller(
        trainer.model,
        first,
        trainer.distillation,
        device=trainer.device,
        epochs=plan.epochs,
        close_mosaic=plan.training.close_mosaic,
        seed=plan.training.seed,
        half=plan.training.amp,
        further=further,
    )
    announce(trainer.model.objective, trainer.watcher)


def record_teachers(trainer: Any) -> None:
    """Let the teachers of *trainer*, on a GPU, record their kernels for a whole batch of one rank.

    Called before the loaders exist, whose threads pin memory: beside them a recording fails or hangs. The last batch
    of an epoch, if it is not whole, and the only one of a data set smaller than a batch run without.
    """
    side, ranks = trainer.args.imgsz, parallel.size()
    more = per_step(trainer.plan.teaching.unlabelled, trainer.batch_size, ranks)
    for one in getattr(trainer.network, "tutors", ()):
        one.teacher.prepare(trainer.batch_size // ranks + more, side, side)


def begin(trainer: Any, state: recovery.State | None) -> None:
    """Let *trainer*, which is set up, go on from *state*, or anew; a distillation is checked and watched over.

    Raises:
        NotDistilling: the liveness contract is broken.

    """
    if state is not None:
        recovery.resume(trainer, state)
    elif trainer.teacher_weights is not None and parallel.rank() == 0:
        examine(trainer, trainer.teacher_weights)
    if trainer.teacher_weights is not None:
        trainer.monitor = trainer.watch_over()
        trainer.monitor.start(trainer)
        trainer.monitor.judge.restore({} if state is None else state["judge"])
    if state is None and parallel.rank() == 0:
        trainer.watcher.alive("checkpoint")
        trainer.recovery.save(trainer, 0)


def announce(objective: Objective, watcher: Watcher) -> None:
    """Say what is distilled, and what is known to be of little use."""
    classes = objective.classes.size
    by = "the teacher" if objective.assigns else "the student's own predictions"
    watcher.log(
        f"distilling {', '.join(objective.labels)}; {classes} classes in common; labels assigned by {by}",
        classes=classes,
        losses=objective.labels,
    )
    if any(label.startswith("softmax_kl") for label in objective.labels):
        watcher.log(
            "softmax_kl compares classes with each other, but YOLO's are independent: it cannot see confidence. "
            "class_logits is made for sigmoid heads",
            "warning",
        )


def examine(trainer: Any, teacher: Path) -> None:
    """Measure the teacher once on the validation set, to stand beside the student's curve."""
    try:
        trainer.teacher_metrics = score(teacher, trainer.plan, on_batch=trainer.poll)
    except ModelError as error:  # feature losses teach across classes too
        trainer.watcher.log(f"the teacher's mAP is not measured: {error.message}", "warning")
    else:
        trainer.watcher.metric(0, trainer.teacher_metrics)
