"""Training a detector, distilled or plain: upstream's loop with our network, optimizer, checkpoints and reports."""

from __future__ import annotations

import gc
import math
from typing import TYPE_CHECKING, Any

import torch

from retort.errors import Diverged, ModelError, OutOfMemory, Stopped
from retort.names import MAP, MAP50
from retort.spec import DistillationSpec
from retort.training import measurements, networks, optimizer, parallel
from retort.training.arguments import arguments
from retort.training.evaluation import score
from retort.training.plan import Fitted, Plan, Watcher
from retort.training.publish import is_finite, publish
from retort.training.recovery import Recovery
from retort.training.student import Distiller, distiller
from retort.training.upstream import DetectionTrainer, init_seeds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Fitted", "Plan", "Watcher", "fit"]


PROGRESS = 0.002
"""Smallest step of progress that is told."""


def fit(
    plan: Plan,
    watcher: Watcher,
    *,
    teacher: Path | None = None,
    distillation: DistillationSpec | None = None,
) -> Fitted:
    """Train by *plan*; with *teacher* and *distillation*, distil.

    Plain and distilled trainings of one plan start from the same weights and see the same batches.

    Raises:
        Stopped: the watcher asked for it.
        Diverged: the loss or the weights are not finite, and going back three times did not help.
        ModelError: weights cannot be used, or student and teacher do not fit the losses.
        OutOfMemory: the device is too small, also for a smaller batch.

    """
    assert (teacher is None) == (distillation is None), "teacher and distillation come together"
    run = Fit(plan, watcher, teacher=teacher, distillation=distillation)
    try:
        run.train()
    except torch.OutOfMemoryError as error:
        hint = f"a batch below {plan.training.batch}, smaller images, or smaller networks"
        raise OutOfMemory(f"the device has too little memory to train {plan.model}", hint=hint) from error
    finally:
        run.close()
    return run.fitted()


class Fit(DetectionTrainer):  # type: ignore[misc]
    """One training in upstream's loop.

    The class must not have "Trainer" in its name: by that word upstream attaches tracking services to a run.
    """

    model: Any
    ema: Any
    optimizer: Any
    validator: Any
    tloss: Any

    def __init__(
        self, plan: Plan, watcher: Watcher, *, teacher: Path | None, distillation: DistillationSpec | None
    ) -> None:
        self.plan = plan
        self.watcher = watcher
        self.teacher_weights = teacher
        self.distillation = distillation
        self.teacher_metrics: dict[str, float | None] = {}
        self.best_metrics: dict[str, float | None] = {}
        self.best_epoch = 0
        self.recovery = Recovery(plan.folder / "state.pt")
        self._batch = 0
        self._told = 0.0
        super().__init__(overrides=arguments(plan))
        hooks: dict[str, Callable[[Any], None]] = {
            "on_train_epoch_start": self._start_epoch,
            "on_train_batch_start": self._start_batch,
            "on_train_batch_end": self._end_batch,
            "on_train_epoch_end": self._end_epoch,
            "on_val_batch_start": self._poll,
            "on_fit_epoch_end": self._report,
        }
        for event, hook in hooks.items():
            self.add_callback(event, hook)

    # What upstream's loop asks of a trainer

    def setup_model(self) -> None:
        """Build the network; there is never a checkpoint to resume from."""
        plan = self.plan
        self.model = networks.build(plan.model, names=self.data["names"], weights=plan.weights, seed=plan.training.seed)

    def set_model_attributes(self) -> None:
        """Attach names and arguments, then join the teacher: the last step before parameters are counted."""
        super().set_model_attributes()
        if self.distillation is None or self.teacher_weights is None:
            return
        teacher = networks.load(self.teacher_weights)
        self.model = distiller(
            self.model,
            teacher,
            self.distillation,
            device=self.device,
            epochs=self.plan.epochs,
            close_mosaic=self.plan.training.close_mosaic,
            seed=self.plan.training.seed,
            half=self._mixed(),
        )
        self._say_hello()

    def _setup_train(self) -> None:
        """Prepare as upstream does, then decide on mixed precision, without the check that downloads a network."""
        super()._setup_train()
        self.amp = self._mixed()
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp)
        if not self.plan.training.ema:
            self.ema.decay = lambda _: 0.0  # the average of the last step alone
        if parallel.rank() == 0:
            if self.teacher_weights is not None:
                self._examine_teacher(self.teacher_weights)
            self.recovery.save(self)
        # A teacher's validation has drawn numbers too: from here on, plain and distilled draw the same.
        init_seeds(self.plan.training.seed + parallel.rank(), deterministic=True)

    def _mixed(self) -> bool:
        return bool(self.plan.training.amp and self.device.type == "cuda")

    def _build_train_pipeline(self) -> None:
        """Say it when upstream halves the batch: student and control would no longer be trained alike.

        Here the ranks are tied together, after the point at which upstream would do so for CUDA only.
        """
        if parallel.size() > 1:
            self.world_size = parallel.size()
            self.model = parallel.wrap(self.model, self.device)
        super()._build_train_pipeline()
        if self.batch_size < self.plan.training.batch:
            self.watcher.log(f"out of memory: the batch is now {self.batch_size}", "warning", batch=self.batch_size)

    def build_optimizer(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Build upstream's optimizer and move the head's parameters to their own learning rate."""
        built = super().build_optimizer(model, *args, **kwargs)
        head = self.student.model[-1]
        return optimizer.multiply_head(built, head, self.plan.training.head_lr_multiplier or 1.0)

    def optimizer_step(self) -> None:
        """Clip the gradient at the plan's norm and step."""
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=self.plan.training.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Go back to the last whole epoch when a value is not finite, the first one included."""
        healthy = bool(self.loss.isfinite()) and math.isfinite(float(self.fitness or 0.0)) and is_finite(self.model)
        if not parallel.any_of(not healthy):
            return False
        self.nan_recovery_attempts += 1
        if self.nan_recovery_attempts > 3:
            hint = "a lower learning rate, a smaller distillation weight, or amp: false"
            raise Diverged(f"epoch {epoch + 1} keeps leaving the finite numbers", hint=hint)
        self.watcher.log(f"epoch {epoch + 1} is not finite: going back", "warning", attempt=self.nan_recovery_attempts)
        self.recovery.load(self)
        self.scheduler.last_epoch = epoch - 1
        return True

    def validate(self) -> tuple[dict[str, Any], Any]:
        """Measure as upstream does, whose ranks share the images; only the first has the figures."""
        share = parallel.share(len(self.test_loader))
        metrics, fitness = super().validate()
        # Upstream divides the mean sum of losses by the first rank's batches, of which it may have more than others.
        return {
            name: value * share if name.endswith("_loss") else value for name, value in (metrics or {}).items()
        }, fitness

    def save_model(self) -> bool:
        """Keep the state to go back to, and publish the best network and the due checkpoint."""
        self.recovery.save(self)
        values = measurements.of(self)
        if self.best_fitness == self.fitness:
            self.best_epoch, self.best_metrics = self.epoch + 1, values
            self._publish(self.best)
        if (self.epoch + 1) % self.plan.training.checkpoint_every == 0 or self.epoch + 1 == self.epochs:
            path = self.plan.folder / "checkpoints" / f"{self.plan.role}-epoch-{self.epoch + 1:04d}.pt"
            self._publish(path)
            compared = {name: values[name] for name in (MAP50, MAP)}
            self.watcher.checkpoint(self.epoch + 1, path, {**compared, **self.teacher_metrics})
        return True

    def final_eval(self) -> None:
        """Skip upstream's: the best epoch has been measured and published."""

    # What we tell and ask

    @property
    def network(self) -> Any:
        """What is trained, the projectors included; without what ties it to other ranks."""
        return parallel.unwrap(self.model)

    @property
    def student(self) -> Any:
        """The network being trained."""
        return self.network.student_model if isinstance(self.network, Distiller) else self.network

    def fitted(self) -> Fitted:
        """Return the result of a finished training."""
        return Fitted(self.best, self.best_metrics, self.epoch + 1, self.best_epoch)

    def close(self) -> None:
        """Let go of loader processes, callbacks and memory, however the training ended."""
        for name in ("train_loader", "test_loader"):
            loader = getattr(self, name, None)
            if loader is not None:
                loader.close()
        self.callbacks.clear()
        self.recovery.remove()
        self.model = self.ema = self.optimizer = self.validator = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _publish(self, path: Path) -> None:
        average = self.ema.ema
        network = average.student_model if isinstance(average, Distiller) else average
        metadata = {"role": str(self.plan.role), "model": self.plan.model, "epoch": self.epoch + 1}
        publish(network, path, names=self.data["names"], metadata=metadata)

    def _start_epoch(self, _: Any) -> None:
        self._batch = 0

    def _start_batch(self, _: Any) -> None:
        if isinstance(self.network, Distiller) and self.network.objective is not None:
            self.network.objective.epoch = self.epoch + self._batch / len(self.train_loader)

    def _end_batch(self, _: Any) -> None:
        self._batch += 1
        fraction = (self.epoch + self._batch / len(self.train_loader)) / self.epochs
        if fraction - self._told >= PROGRESS or fraction == 1:
            self._told = fraction
            self.watcher.progress(fraction)
        self._stop_if(parallel.any_of(self.watcher.stop_requested()))

    def _end_epoch(self, _: Any) -> None:
        self.tloss = parallel.means(self.tloss)

    def _poll(self, _: Any) -> None:
        self._stop_if(self.watcher.stop_requested())

    def _stop_if(self, wanted: bool) -> None:
        if wanted:
            raise Stopped(f"stopped in epoch {self.epoch + 1} of {self.epochs}")

    def _report(self, _: Any) -> None:
        compared = self.teacher_metrics if (self.epoch + 1) % self.plan.training.checkpoint_every == 0 else {}
        self.watcher.metric(self.epoch + 1, {**measurements.of(self), **compared})

    def _say_hello(self) -> None:
        objective = self.model.objective
        classes = objective.classes.size
        self.watcher.log(
            f"distilling {', '.join(objective.labels)}; {classes} classes in common",
            classes=classes,
            losses=objective.labels,
        )
        if any(label.startswith("softmax_kl") for label in objective.labels):
            self.watcher.log(
                "softmax_kl compares classes with each other, but YOLO's are independent: it cannot see confidence. "
                "class_logits is made for sigmoid heads",
                "warning",
            )

    def _examine_teacher(self, weights: Path) -> None:
        """Measure the teacher once on the validation set, to stand beside the student's curve."""
        try:
            self.teacher_metrics = score(weights, self.plan, on_batch=lambda: self._poll(self))
        except ModelError as error:  # feature losses teach across classes too
            self.watcher.log(f"the teacher's mAP is not measured: {error.message}", "warning")
        else:
            self.watcher.metric(0, self.teacher_metrics)
