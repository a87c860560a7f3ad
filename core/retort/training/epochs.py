"""Tell what an epoch has measured; keep its networks and its state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from retort import files
from retort.constants import MAP, MAP50
from retort.errors import RetortError
from retort.training import checkpoint, comm
from retort.training.checkpoint import Resumable
from retort.training.distillation.distiller import Distiller
from retort.training.models import published, serialized
from retort.training.optim import learning_rates


class MeasuredTrainer(Resumable, Protocol):
    """Interface of a trainer whose epoch has been measured."""

    metrics: dict[str, Any]
    """Upstream's, of the validation."""
    fitness: float | None
    stop: bool


VALIDATED = {
    "metrics/precision(B)": "val/precision",
    "metrics/recall(B)": "val/recall",
    "metrics/mAP50(B)": MAP50,
    "metrics/mAP50-95(B)": MAP,
}
"""Upstream's names of what validation measures, and ours."""


def epoch_metrics(trainer: MeasuredTrainer) -> dict[str, float | None]:
    """Return the metrics of the trainer's epoch.

    They are losses, learning rates and validation results; not finite is None.
    """
    means = {name: float(value) for name, value in trainer.tloss.items()}
    agreement = {name: value for name, value in means.items() if name.startswith("agreement/")}
    trained = {f"train/{name}": value for name, value in means.items() if name not in agreement}
    trained["train/loss"] = sum(
        value
        for name, value in trained.items()
        if not name.startswith("train/kd/")  # which kd_loss sums up
    )
    validated = {VALIDATED.get(name, name): float(value) for name, value in trainer.metrics.items()}
    validated = {name: value for name, value in validated.items() if not name.startswith(("val/kd", "val/agreement"))}
    agreed = {f"health/grad_{name.replace('/', '_')}": value for name, value in agreement.items()}
    found = {**trained, **agreed, **learning_rates(trainer.optimizer), **validated}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def rescale_losses(validated: Mapping[str, float], share: float) -> dict[str, float]:
    """Correct the losses of a validation that ranks have shared.

    Upstream divides by the first rank's batches. *share* is the number of this rank's batches over the mean of all
    ranks'.
    """
    return {name: value * share if name.endswith("_loss") else value for name, value in validated.items()}


def keep_networks(trainer: MeasuredTrainer) -> None:
    """Publish the best network and the checkpoint that is due.

    The averaged network of *trainer*'s epoch is published where it is the best so far, which is with the state of
    the epoch.

    Raises:
        Diverged: a weight is not finite, or a layer is all zeros.

    """
    done, plan = trainer.epoch + 1, trainer.plan
    due = done % plan.training.checkpoint_every == 0 or done == trainer.epochs or trainer.stop
    best = trainer.best_fitness == trainer.fitness
    if not (best or due):
        return
    values, network = epoch_metrics(trainer), average_of(trainer, done)
    if best:
        trainer.best_epoch, trainer.best_metrics = done, values
        trainer.recovery.add_best(done, network)
    if due:
        path = checkpoint.kept_path(plan, done)
        files.atomic_write(path, serialized(network))
        compared = {name: values[name] for name in (MAP50, MAP)}
        trainer.callback.checkpoint(done, path, {**compared, **trainer.teacher_metrics})


def keep_state(trainer: MeasuredTrainer) -> None:
    """Save the state of *trainer*'s epoch while the next one trains.

    It is announced when it is on the disk.
    """
    done, callback = trainer.epoch + 1, trainer.callback
    callback.alive("checkpoint")
    trainer.recovery.start_saving(trainer, done, then=lambda: callback.saved(done))


def await_state(trainer: MeasuredTrainer) -> None:
    """Wait for the state of the epoch before, if it is still being saved.

    Best networks that it does not name are removed with it, so that no other may be published before, and a rank must
    not read states beside it.
    """
    if trainer.recovery.busy:
        trainer.callback.alive("checkpoint")
        trainer.recovery.wait()


def abandon_state(trainer: MeasuredTrainer) -> None:
    """Let a state that is being saved come to its end.

    The training has ended, maybe with an error of its own.
    """
    try:
        trainer.recovery.wait()
    except (OSError, RetortError) as error:
        trainer.callback.log(f"a state was not saved: {error}", "warning")


def keep_last(trainer: MeasuredTrainer) -> None:
    """Publish the network of the last whole epoch.

    *trainer* has ended within the next one.
    """
    path = checkpoint.kept_path(trainer.plan, trainer.whole_epochs)
    if comm.rank() == 0 and not path.exists():
        trainer.recovery.load(trainer)
        publish_average(trainer, path, epoch=trainer.whole_epochs)


def publish_average(trainer: MeasuredTrainer, path: Path, *, epoch: int) -> None:
    """Publish the averaged network of *trainer* to *path*."""
    files.atomic_write(path, serialized(average_of(trainer, epoch)))


def average_of(trainer: MeasuredTrainer, epoch: int) -> dict[str, Any]:
    """Return a copy of *trainer*'s averaged network as a file holds it."""
    average = trainer.ema.ema
    network = average.student_model if isinstance(average, Distiller) else average
    metadata = {"role": str(trainer.plan.role), "model": trainer.plan.model, "epoch": epoch}
    return published(network, names=trainer.data["names"], imgsz=trainer.args.imgsz, metadata=metadata)
