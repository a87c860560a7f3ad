"""Training a detector, distilled or plain: upstream's loop with our network, optimizer, checkpoints and reports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from retort.spec import DistillationSpec
from retort.training import beginning, compiling, keeping, measurements, memory, networks, optimizer, parallel, wishes
from retort.training.arguments import arguments
from retort.training.batches.colours import coloured
from retort.training.batches.loader import loader_for, workers_for
from retort.training.batches.shared_memory import free_bytes
from retort.training.batches.unlabelled import UnlabelledImages, beside, unlabelled_loader
from retort.training.cadence import Cadence
from retort.training.distillation import assignment
from retort.training.distillation.student import Distiller
from retort.training.health.monitor import Monitor
from retort.training.ignored import set_apart, spare
from retort.training.plan import Fitted, Plan, Watcher
from retort.training.state import identity, recovery
from retort.training.state.recovery import Recovery
from retort.training.state.reseeding import reseed
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
        ModelError: weights cannot be used, or nothing can be compiled here.
        TeacherMismatch: student and teacher do not fit the losses.
        OutOfMemory: the device is too small for the batch.

    """
    assert (teacher is None) == (distillation is None), "teacher and distillation come together"
    run = Fit(plan, watcher, teacher=teacher, distillation=distillation)
    try:
        with memory.explained(plan), compiling.explained():
            run.train()
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
        self.unlabelled: UnlabelledImages | None = None
        self.monitor: Monitor | None = None
        self.cadence = Cadence()
        self._state: recovery.State | None = None
        self.whole_epochs = 0
        """Epochs that are measured and whose state is on the disk; the same on every rank."""
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
            "on_train_epoch_end": self._end_epoch,
            "on_val_batch_start": self.poll,
            "on_fit_epoch_end": self._report,
        }
        for event, hook in hooks.items():
            self.add_callback(event, hook)
        # Last: what an epoch tells is told before its state exists, so that no resume can leave a gap.
        self.add_callback("on_fit_epoch_end", self._keep)

    def train(self) -> None:
        """Go on from the state in the folder, if there is one; never train what is complete."""
        self._state = self.recovery.find()
        early = parallel.any_of(self.watcher.finish_requested())
        if self._state is not None and self._state["done"] >= (1 if early else self.epochs):
            recovery.recall(self, self._state)
            return
        try:
            super().train()
        except wishes.Finished:
            self.watcher.log(f"finished early, after epoch {self.epoch + 1} of {self.epochs}", epoch=self.epoch + 1)
            self.final_eval()

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
        beginning.accelerate(self.model, self.plan, self.device)
        if self.teacher_weights is not None:
            beginning.join(self, self.teacher_weights)

    def _setup_train(self) -> None:
        """Prepare as upstream does, then decide on mixed precision, without the check that downloads a network."""
        super()._setup_train()
        self.amp = self._mixed()
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp)
        if not self.plan.training.ema:
            self.ema.decay = lambda _: 0.0  # the average of the last step alone
        state, self._state = self._state, None
        beginning.begin(self, state)
        self.watcher.alive("setup")  # until the first batch is done, whatever has been measured so far

    def watch_over(self) -> Monitor:
        """Return what keeps watch over a distillation; it is not asked for in a plain training."""
        return Monitor(self)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Prepare a batch, check on the first that it teaches, and lay this step's unlabelled images beside it."""
        prepared = set_apart(coloured(super().preprocess_batch(batch)))
        if not isinstance(self.network, Distiller):  # which does so itself
            spare(assignment.criteria(self.student).values(), prepared)
        if self.monitor is not None:
            self.monitor.first_batch(self, prepared)
        return beside(prepared, self.unlabelled, self.model, self.epoch)

    def _mixed(self) -> bool:
        return bool(self.plan.training.amp and self.device.type == "cuda")

    def _build_train_pipeline(self) -> None:
        """Tie the ranks together here, after the point at which upstream would do so for CUDA only."""
        self.cadence.start_over()
        beginning.record_teachers(self)
        if parallel.size() > 1:
            self.world_size = parallel.size()
            self.model = parallel.wrap(self.model, self.device)
        self.args.workers = workers_for(self, free_bytes())
        super()._build_train_pipeline()
        self.unlabelled = unlabelled_loader(self, self.plan.teaching.unlabelled)

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
        figures = bool(self.loss.isfinite()) and math.isfinite(float(self.fitness or 0.0))
        if not parallel.any_of(not (figures and networks.is_finite(self.model))):
            return False
        self.nan_recovery_attempts += 1
        recovery.go_back(self, epoch, self.nan_recovery_attempts)
        return True

    def validate(self) -> tuple[dict[str, Any], Any]:
        """Measure as upstream does, whose ranks share the images; only the first has the figures."""
        share = parallel.share(len(self.test_loader))
        metrics, fitness = super().validate()
        return measurements.of_all_ranks(metrics or {}, share), fitness

    def save_model(self) -> bool:
        """Publish the best network and the due checkpoint."""
        self.watcher.alive("checkpoint")
        keeping.keep_networks(self)
        return True

    def final_eval(self) -> None:
        """Draw the pictures of a distillation; the best epoch has been measured and published."""
        self.watcher.alive("setup")
        if self.monitor is not None:
            self.monitor.finish(self)

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
        return Fitted(self.recovery.best(self.best_epoch), self.best_metrics, self.epoch + 1, self.best_epoch)

    def close(self) -> None:
        """Let go of loader processes, callbacks and memory, however the training ended."""
        keeping.let_go(self)

    @property
    def at_end_of_epoch(self) -> bool:
        """Whether all batches of the epoch are done."""
        return self._batch == len(self.train_loader)

    def _start_epoch(self, _: Any) -> None:
        self._batch = 0
        self._oom_retries = 3  # upstream would halve the batch for one of student and control; that is the service's
        self.cadence.begin(self.network)
        reseed(self, self.plan.training.seed, self.epoch, self.nan_recovery_attempts)

    def _start_batch(self, _: Any) -> None:
        if isinstance(self.network, Distiller) and self.network.objective is not None:
            self.network.objective.epoch = self.epoch + self._batch / len(self.train_loader)

    def _end_batch(self, _: Any) -> None:
        self._batch += 1
        fraction = (self.epoch + self._batch / len(self.train_loader)) / self.epochs
        if fraction - self._told >= PROGRESS or fraction == 1:
            self._told = fraction
            self.watcher.progress(fraction)
        wishes.obey(self)

    def _end_epoch(self, _: Any) -> None:
        self.tloss = parallel.means(self.tloss)

    def poll(self, _: Any = None) -> None:
        """Say that it gets on, and stop where it is asked for (``wishes.poll``)."""
        wishes.poll(self)

    def _keep(self, _: Any) -> None:
        if parallel.rank() == 0:
            self.watcher.alive("checkpoint")
            self.recovery.save(self, self.epoch + 1)
            self.watcher.saved(self.epoch + 1)
        self.whole_epochs = self.epoch + 1
        wishes.obey_between_epochs(self)

    def _report(self, _: Any) -> None:
        compared = self.teacher_metrics if (self.epoch + 1) % self.plan.training.checkpoint_every == 0 else {}
        measured = measurements.of(self)
        health = {} if self.monitor is None else self.monitor.end_epoch(self, measured)
        self.watcher.metric(self.epoch + 1, {**measured, **health, **compared})
