"""Training a detector, distilled or plain: upstream's loop with our network, optimizer, checkpoints and reports."""

from __future__ import annotations

import gc
import math
from typing import TYPE_CHECKING, Any

import torch

from retort.errors import Diverged, ModelError, OutOfMemory, Stopped
from retort.names import MAP, MAP50
from retort.spec import DistillationSpec
from retort.training import identity, measurements, networks, optimizer, recovery
from retort.training.arguments import arguments
from retort.training.cadence import Cadence
from retort.training.evaluation import score
from retort.training.loader import loader_for
from retort.training.monitor import Monitor
from retort.training.plan import Fitted, Plan, Watcher
from retort.training.publish import is_finite, publish
from retort.training.recovery import Recovery
from retort.training.reseeding import reseed
from retort.training.student import Distiller, distiller
from retort.training.tutor import candidates
from retort.training.unlabelled import UnlabelledImages, beside, unlabelled_loader
from retort.training.upstream import DetectionTrainer

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

    Plain and distilled trainings of one plan start from the same weights and see the same batches. Where the plan's
    folder holds a whole state of the same training, it goes on from there; one that is complete is not trained again.

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
        self.unlabelled: UnlabelledImages | None = None
        self.monitor: Monitor | None = None
        self.cadence = Cadence()
        self._state: recovery.State | None = None
        self._batch = 0
        self._told = 0.0
        super().__init__(overrides=arguments(plan))
        further = [one.weights for one in plan.teaching.further]
        teachers = [] if teacher is None else [teacher, *further]
        self.recovery = Recovery(plan.folder, identity.of(plan, distillation, teachers, self.data), watcher.log)
        hooks: dict[str, Callable[[Any], None]] = {
            "on_train_epoch_start": self._start_epoch,
            "on_train_batch_start": self._start_batch,
            "on_train_batch_end": self._end_batch,
            "on_val_batch_start": self._poll,
            "on_fit_epoch_end": self._report,
        }
        for event, hook in hooks.items():
            self.add_callback(event, hook)
        # Last: what an epoch tells is told before its state exists, so that no resume can leave a gap.
        self.add_callback("on_fit_epoch_end", lambda _: self.recovery.save(self, self.epoch + 1))

    def train(self) -> None:
        """Go on from the state in the folder, if there is one; never train what is complete."""
        self._state = self.recovery.find()
        if self._state is not None and self._state["done"] >= self.epochs:
            recovery.recall(self, self._state)
        else:
            super().train()

    # What upstream's loop asks of a trainer

    @property
    def accumulate(self) -> int:
        """Batches from one optimizer step to the next, as upstream's loop must see it."""
        return self.cadence.batches + self.cadence.offset

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self.cadence.batches = batches

    def setup_model(self) -> None:
        """Build the network; there is never a checkpoint of upstream's to resume from."""
        plan = self.plan
        self.model = networks.build(plan.model, names=self.data["names"], weights=plan.weights, seed=plan.training.seed)

    def set_model_attributes(self) -> None:
        """Attach names and arguments, then join the teacher: the last step before parameters are counted."""
        super().set_model_attributes()
        if self.device.type == "cpu":  # upstream does so on CUDA only; here a step takes a tenth less
            self.model.to(memory_format=torch.channels_last)
        if self.distillation is None or self.teacher_weights is None:
            return
        first, *further = candidates(self.teacher_weights, self.plan)
        self.model = distiller(
            self.model,
            first,
            self.distillation,
            device=self.device,
            epochs=self.plan.epochs,
            close_mosaic=self.plan.training.close_mosaic,
            seed=self.plan.training.seed,
            half=self.plan.training.amp,
            further=further,
        )
        self._say_hello()

    def _setup_train(self) -> None:
        """Prepare as upstream does, then decide on mixed precision, without the check that downloads a network."""
        if self._state is not None:
            self.args.batch = self.batch_size = self._state["batch"]  # an earlier attempt may have had to halve it
        super()._setup_train()
        self.amp = self._mixed()
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp)
        if not self.plan.training.ema:
            self.ema.decay = lambda _: 0.0  # the average of the last step alone
        state, self._state = self._state, None
        if state is not None:
            recovery.resume(self, state)
        elif self.teacher_weights is not None:
            self._examine_teacher(self.teacher_weights)
        if self.teacher_weights is not None:
            self.monitor = self.watch_over()
            self.monitor.start(self)
            self.monitor.judge.restore({} if state is None else state["judge"])
        if state is None:
            self.recovery.save(self, 0)

    def watch_over(self) -> Monitor:
        """Return what keeps watch over a distillation; it is not asked for in a plain training."""
        return Monitor(self)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Prepare a batch, check on the first that it teaches, and lay this step's unlabelled images beside it."""
        prepared: dict[str, Any] = super().preprocess_batch(batch)
        if self.monitor is not None:
            self.monitor.first_batch(self, prepared)
        return beside(prepared, self.unlabelled, self.model, self.epoch)

    def _mixed(self) -> bool:
        return bool(self.plan.training.amp and self.device.type == "cuda")

    def _build_train_pipeline(self) -> None:
        """Say it when upstream halves the batch: student and control would no longer be trained alike."""
        self.cadence.start_over()
        super()._build_train_pipeline()
        self.unlabelled = unlabelled_loader(self, self.plan.teaching.unlabelled)
        if self.batch_size < self.plan.training.batch:
            self.watcher.log(f"out of memory: the batch is now {self.batch_size}", "warning", batch=self.batch_size)

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Build our training loader; the validation's is upstream's."""
        if mode == "train":
            return loader_for(self, dataset_path, batch_size, rank)
        return super().get_dataloader(dataset_path, batch_size, rank, mode)

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
        self.cadence.stepped(self.epoch * len(self.train_loader) + self._batch)

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Go back to the last whole epoch when a value is not finite, the first one included."""
        healthy = bool(self.loss.isfinite()) and math.isfinite(float(self.fitness or 0.0)) and is_finite(self.model)
        if healthy:
            return False
        self.nan_recovery_attempts += 1
        if self.monitor is not None:
            self.monitor.not_finite(epoch + 1)
        if self.nan_recovery_attempts > 3:
            hint = "a lower learning rate, a smaller distillation weight, or amp: false"
            raise Diverged(f"epoch {epoch + 1} keeps leaving the finite numbers", hint=hint)
        self.watcher.log(f"epoch {epoch + 1} is not finite: going back", "warning", attempt=self.nan_recovery_attempts)
        self.recovery.load(self)
        return True

    def save_model(self) -> bool:
        """Publish the best network and the due checkpoint."""
        values = measurements.of(self)
        if self.best_fitness == self.fitness:
            self.best_epoch, self.best_metrics = self.epoch + 1, values
            self._publish(self.recovery.best(self.best_epoch))
        if (self.epoch + 1) % self.plan.training.checkpoint_every == 0 or self.epoch + 1 == self.epochs:
            path = self.plan.folder / "checkpoints" / f"{self.plan.role}-epoch-{self.epoch + 1:04d}.pt"
            self._publish(path)
            compared = {name: values[name] for name in (MAP50, MAP)}
            self.watcher.checkpoint(self.epoch + 1, path, {**compared, **self.teacher_metrics})
        return True

    def final_eval(self) -> None:
        """Draw the pictures of a distillation; the best epoch has been measured and published."""
        if self.monitor is not None:
            self.monitor.finish(self)

    # What we tell and ask

    @property
    def student(self) -> Any:
        """The network being trained."""
        return self.model.student_model if isinstance(self.model, Distiller) else self.model

    def fitted(self) -> Fitted:
        """Return the result of a finished training."""
        return Fitted(self.recovery.best(self.best_epoch), self.best_metrics, self.epoch + 1, self.best_epoch)

    def close(self) -> None:
        """Let go of loader processes, callbacks and memory, however the training ended."""
        for name in ("train_loader", "test_loader"):
            loader = getattr(self, name, None)
            if loader is not None:
                loader.close()
        self.unlabelled = None
        self.callbacks.clear()
        self.model = self.ema = self.optimizer = self.validator = self.monitor = None
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
        self.cadence.begin(self.model)
        reseed(self, self.plan.training.seed, self.epoch, self.nan_recovery_attempts)

    def _start_batch(self, _: Any) -> None:
        if isinstance(self.model, Distiller) and self.model.objective is not None:
            self.model.objective.epoch = self.epoch + self._batch / len(self.train_loader)

    def _end_batch(self, _: Any) -> None:
        self._batch += 1
        fraction = (self.epoch + self._batch / len(self.train_loader)) / self.epochs
        if fraction - self._told >= PROGRESS or fraction == 1:
            self._told = fraction
            self.watcher.progress(fraction)
        self._poll(self)

    def _poll(self, _: Any) -> None:
        if self.watcher.stop_requested():
            raise Stopped(f"stopped in epoch {self.epoch + 1} of {self.epochs}")

    def _report(self, _: Any) -> None:
        compared = self.teacher_metrics if (self.epoch + 1) % self.plan.training.checkpoint_every == 0 else {}
        measured = measurements.of(self)
        health = {} if self.monitor is None else self.monitor.end_epoch(self, measured)
        self.watcher.metric(self.epoch + 1, {**measured, **health, **compared})

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
