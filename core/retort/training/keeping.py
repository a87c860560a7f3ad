"""What a training keeps of its networks, and how it lets go of everything else."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch

from retort.names import MAP, MAP50
from retort.training import measurements
from retort.training.distillation.student import Distiller
from retort.training.publish import publish


def keep_networks(trainer: Any) -> None:
    """Publish the averaged network of *trainer*'s epoch where it is the best so far, and the checkpoint that is due."""
    done, plan = trainer.epoch + 1, trainer.plan
    values = measurements.of(trainer)
    if trainer.best_fitness == trainer.fitness:
        trainer.best_epoch, trainer.best_metrics = done, values
        _publish(trainer, trainer.recovery.best(done))
    if done % plan.training.checkpoint_every == 0 or done == trainer.epochs:
        path = plan.folder / "checkpoints" / f"{plan.role}-epoch-{done:04d}.pt"
        _publish(trainer, path)
        compared = {name: values[name] for name in (MAP50, MAP)}
        trainer.watcher.checkpoint(done, path, {**compared, **trainer.teacher_metrics})


def let_go(trainer: Any) -> None:
    """Let go of loader processes, callbacks and memory, however far *trainer* has come."""
    for name in ("train_loader", "test_loader"):
        loader = getattr(trainer, name, None)
        if loader is not None:
            loader.close()
    trainer.callbacks.clear()
    trainer.model = trainer.ema = trainer.optimizer = trainer.validator = trainer.monitor = trainer.unlabelled = None
    gc.collect()
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()


def _publish(trainer: Any, path: Path) -> None:
    average = trainer.ema.ema
    network = average.student_model if isinstance(average, Distiller) else average
    metadata = {"role": str(trainer.plan.role), "model": trainer.plan.model, "epoch": trainer.epoch + 1}
    publish(network, path, names=trainer.data["names"], metadata=metadata)
