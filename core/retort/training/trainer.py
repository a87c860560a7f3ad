"""The training loop: Ultralytics' trainer with our network, optimizer, checkpoints and reports."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort.errors import Stopped
from retort.spec import DistillationSpec
from retort.training import baselines, checkpoint, comm, device, epochs, models, optim
from retort.training.acceleration import accelerate, record_teachers, tell_optimisations
from retort.training.arguments import arguments
from retort.training.arms import assignment_alone, balance_classes
from retort.training.checkpoint import Checkpointer
from retort.training.compiling import CompiledLayers
from retort.training.config import TrainCallback, TrainConfig, TrainResult
from retort.training.criterion import LossMeans
from retort.training.data.ahead import prepare
from retort.training.data.ignore_regions import apply_ignore
from retort.training.data.loader import loader_for, measured_loading, validation_loader_for
from retort.training.data.sampler import reseed
from retort.training.data.unlabelled import UnlabelledImages, beside, unlabelled_loader
from retort.training.distillation.distiller import Distiller, load_teachers, make_distiller
from retort.training.distillation.objective import DistillationObjective, criteria
from retort.training.health.monitor import Monitor
from retort.training.optim import GradientAccumulation
from retort.training.stopping import StopRule
from retort.training.ultralytics_api import DEFAULT_CFG, DetectionTrainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["TrainCallback", "TrainConfig", "TrainResult", "fit"]


def attach_teachers(trainer: TrainingLoop, teacher: Path | None) -> None:
    """Attach the teachers to the student, and announce the distillation.

    Both stand in the place of the student alone.

    Raises:
        ModelError: a teacher cannot be loaded.
        TeacherMismatch: it does not fit the student and the losses.

    """
    plan = trainer.plan
    assert trainer.distillation is not None, "a teacher comes with what is learned from it"
    distillation = trainer.distillation if plan.terms else assignment_alone(trainer.distillation)
    first, *further = load_teachers(teacher, plan, trainer.model)
    trainer.model = make_distiller(
        trainer.model,
        first,
        distillation,
        device=trainer.device,
        epochs=plan.epochs,
        close_mosaic=plan.training.close_mosaic,
        seed=plan.training.seed,
        half=plan.training.amp,
        further=further,
        cycle=plan.cycle,
    )
    announce(trainer.model.objective, trainer.callback)
    for warning in filter(None, (slot.objective.warning for slot in trainer.model.slots)):
        trainer.callback.log(warning, "warning")


def begin(trainer: TrainingLoop, state: checkpoint.State | None) -> None:
    """Start or resume *trainer*; measure where it starts; attach the checks of a distillation.

    Raises:
        NotDistilling: the liveness contract is broken.

    """
    if state is not None:
        checkpoint.resume(trainer, state)
    elif comm.rank() == 0:
        epochs.publish_average(trainer, trainer.recovery.best(0), epoch=0)
        baselines.measure(trainer)
    if trainer.distillation is not None:
        for one in trainer.network.slots:
            one.objective.pace(len(trainer.train_loader))
    if trainer.distillation is not None and trainer.plan.watched:
        trainer.monitor = trainer.watch_over()
        trainer.monitor.start(trainer)
        trainer.monitor.rules.restore({} if state is None else state["judge"])
    if state is None and comm.rank() == 0:
        trainer.callback.alive("checkpoint")
        trainer.recovery.save(trainer, 0)


def announce(objective: DistillationObjective, callback: TrainCallback) -> None:
    """Announce the distillation, and choices known to be of little use."""
    classes = objective.classes.size
    by = "the teacher" if objective.assigns else "the student's own predictions"
    if not objective.labels:
        callback.log(f"no term is distilled; labels assigned by {by}", classes=classes, losses=[])
        return
    callback.log(
        f"distilling {', '.join(objective.labels)}; {classes} classes in common; labels assigned by {by}",
        classes=classes,
        losses=objective.labels,
    )
    if any(label.startswith("softmax_kl") for label in objective.labels):
        callback.log(
            "softmax_kl compares classes with each other, but YOLO's are independent: it cannot see confidence. "
            "class_logits is made for sigmoid heads",
            "warning",
        )


_GO_ON, _FINISH, _STOP = range(3)
"""Ranks agree on the highest."""


class FinishedEarly(Exception):
    """Early end of a training that has a network to keep."""


def apply_requests(trainer: TrainingLoop) -> None:
    """Report a finished batch of *trainer*, and apply stop requests.

    The training ends where that is asked for.

    Raises:
        Stopped: it is to stop, and another attempt may go on.
        FinishedEarly: it is over; the epoch under way does not count.

    """
    trainer.callback.alive("step")
    asked = comm.highest(_asked(trainer.callback))
    if asked == _STOP:
        epochs.abandon_state(trainer)
        comm.highest(asked)  # the first rank that ends takes the others with it, so all wait for the state
        raise _stopped(trainer)
    if asked == _FINISH and trainer.whole_epochs and not trainer.at_end_of_epoch:
        _finish(trainer)


def apply_requests_between_epochs(trainer: TrainingLoop) -> None:
    """End *trainer* between epochs where finishing early is asked for.

    An epoch has been measured, and its state is on the disk.

    Raises:
        FinishedEarly: it is over.

    """
    asked = comm.any_of(trainer.callback.finish_requested())
    if asked and trainer.whole_epochs < trainer.epochs:
        _finish(trainer)


def poll(trainer: TrainingLoop) -> None:
    """Send a heartbeat of *trainer*; obey only a stop.

    Raises:
        Stopped: it is to stop.

    """
    trainer.callback.alive("step")
    if trainer.callback.stop_requested():
        raise _stopped(trainer)


def _asked(callback: TrainCallback) -> int:
    if callback.stop_requested():
        return _STOP
    return _FINISH if callback.finish_requested() else _GO_ON


def _finish(trainer: TrainingLoop) -> None:
    trainer.epoch = trainer.whole_epochs - 1
    raise FinishedEarly


def _stopped(trainer: TrainingLoop) -> Stopped:
    return Stopped(f"stopped in epoch {trainer.epoch + 1} of {trainer.epochs}")


def release_memory(trainer: TrainingLoop) -> None:
    """Release loader processes, callbacks and memory, however far *trainer* has come."""
    for name in ("train_loader", "test_loader"):
        loader = getattr(trainer, name, None)
        if loader is not None:
            loader.close()
    trainer.callbacks.clear()
    trainer.model = trainer.ema = trainer.optimizer = trainer.validator = trainer.monitor = trainer.unlabelled = None
    gc.collect()
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()


PROGRESS = 0.002
"""Smallest step of progress that is told."""


def fit(
    plan: TrainConfig,
    callback: TrainCallback,
    *,
    teacher: Path | None = None,
    distillation: DistillationSpec | None = None,
) -> TrainResult:
    """Train by *plan*; with *teacher* and *distillation*, distil.

    With a plan that says so, the average of the student's own weights is the teacher, and has no file. Plain and
    distilled trainings of one plan start from the same weights and see the same batches. Where the plan's
    folder holds a whole state of the same training, it goes on from there; one that is complete is not trained again.

    Raises:
        Stopped: the callback asked for it.
        Diverged: the loss or the weights are not finite, and going back three times did not help.
        ModelError: weights cannot be used.
        TeacherMismatch: student and teacher do not fit the losses.
        OutOfMemory: the device is too small for the batch.

    """
    taught = plan.teaching.ema if teacher is None else not plan.teaching.ema
    assert taught == (distillation is not None), "teacher and distillation come together"
    run = TrainingLoop(plan, callback, teacher=teacher, distillation=distillation)
    try:
        with device.explain_out_of_memory(plan):
            run.train()
    finally:
        run.close()
    return run.result()


class TrainingLoop(DetectionTrainer):  # type: ignore[misc]
    """One training in upstream's loop.

    The class must not have "Trainer" in its name: by that word upstream attaches tracking services to a run.
    """

    model: Any
    ema: Any
    optimizer: Any
    validator: Any

    def __init__(
        self, plan: TrainConfig, callback: TrainCallback, *, teacher: Path | None, distillation: DistillationSpec | None
    ) -> None:
        self.plan = plan
        self.callback = callback
        self.teacher_weights = teacher
        self.distillation = distillation
        self.start_metrics: dict[str, float | None] = {}
        self.teacher_metrics: dict[str, float | None] = {}
        self.best_metrics: dict[str, float | None] = {}
        self.best_epoch = 0
        self.unlabelled: UnlabelledImages | None = None
        self.monitor: Monitor | None = None
        self.layers: CompiledLayers | None = None
        self._tloss: LossMeans | None = None
        self._told_layers = False
        self.accumulation = GradientAccumulation()
        self.stop_rule = StopRule(plan.training)
        self._state: checkpoint.State | None = None
        self.whole_epochs = 0
        """Epochs that are measured and whose state is on the disk, or on its way; the same on every rank."""
        self._batch = 0
        self._told = 0.0
        self._began = 0.0
        self._num_images = 0
        super().__init__(overrides=arguments(plan))
        further = [one.weights for one in plan.teaching.further]
        teachers = [] if teacher is None else [teacher, *further]
        self.recovery = Checkpointer(
            plan.folder, checkpoint.identity_of(plan, distillation, teachers, self.data), callback.log,
            extends=checkpoint.extends(plan, distillation, teachers, self.data),
        )  # fmt: skip
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
        """Train, or resume from the folder's state; skip a complete training."""
        self._state = self.recovery.find()
        early = comm.any_of(self.callback.finish_requested())
        if self._state is not None and (
            self._state["done"] >= (1 if early else self.epochs) or self._state["stopping"]["reason"]
        ):
            checkpoint.load_results(self, self._state)
            return
        try:
            super().train()
        except FinishedEarly:
            self.callback.log(f"finished early, after epoch {self.epoch + 1} of {self.epochs}", epoch=self.epoch + 1)
            epochs.keep_last(self)
            self.final_eval()
        self.recovery.wait()

    # What upstream's loop asks of a trainer

    @property
    def accumulate(self) -> int:
        """Batches between two optimizer steps, as upstream's loop must see it."""
        return self.accumulation.batches + self.accumulation.offset

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self.accumulation.batches = batches

    @property
    def tloss(self) -> Any:
        """Means of the epoch's losses, by name; None before the first batch."""
        return self._tloss

    @tloss.setter
    def tloss(self, means: Mapping[str, torch.Tensor] | None) -> None:
        self._tloss = None if means is None else LossMeans(means, self._tloss)

    def setup_model(self) -> None:
        """Build the network; there is never an upstream checkpoint to resume."""
        self.model = models.build_start(self.plan, self.data["names"])

    def set_model_attributes(self) -> None:
        """Attach names and arguments, then the teacher.

        This is the last step before parameters are counted.
        """
        super().set_model_attributes()
        self.layers = accelerate(self.model, self.plan, self.device)
        if self.distillation is not None:
            attach_teachers(self, self.teacher_weights)

    def _setup_train(self) -> None:
        """Prepare as upstream does, then decide on mixed precision, without the check that downloads a network."""
        super()._setup_train()
        self.amp = self._mixed()
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp)
        if not self.plan.training.ema:
            self.ema.decay = lambda _: 0.0  # the average of the last step alone
        self.stopper = self.stop_rule
        if self.plan.teaching.ema:
            self.network.follow(lambda: comm.unwrap(self.ema.ema).student_model)
        state, self._state = self._state, None
        begin(self, state)
        self.callback.alive("setup")  # until the first batch is done, whatever has been measured so far

    def _setup_scheduler(self) -> None:
        """Build upstream's schedule; an extended training goes through the last part of it again."""
        if self.plan.cycle is None:
            super()._setup_scheduler()
            return
        self.lf = optim.extended_rate(self.plan.cycle, self.args.lrf, cosine=self.args.cos_lr)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lr_lambda=self.lf)

    def _get_warmup_iterations(self, num_batches: int) -> int:
        """Return upstream's warm-up; an extended training has had it."""
        return 0 if self.plan.extended else int(super()._get_warmup_iterations(num_batches))

    def set_class_weights(self) -> None:
        """Weigh classes in the task loss by ``cls_pw``, and by a recipe's balance."""
        super().set_class_weights()
        balance_classes(self)

    def watch_over(self) -> Monitor:
        """Return the monitor; a plain training does not ask for one."""
        return Monitor(self)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Prepare a batch, and add this step's unlabelled images.

        It checks on the first batch that the distillation teaches.
        """
        prepared = super().preprocess_batch(prepare(batch, self.device))
        self._num_images += len(prepared["img"])
        if not isinstance(self.network, Distiller):  # which does so itself
            apply_ignore(criteria(self.student).values(), prepared)
        if self.monitor is not None:
            self.monitor.first_batch(self, prepared)
        return beside(prepared, self.unlabelled, self.model, self.epoch)

    def _mixed(self) -> bool:
        return bool(self.plan.training.amp and self.device.type == "cuda")

    def _build_train_pipeline(self) -> None:
        """Tie the ranks together here, after the point at which upstream would do so for CUDA only."""
        self.accumulation.start_over()
        record_teachers(self)
        if comm.size() > 1:
            self.world_size = comm.size()
            self.model = comm.wrap(self.model, self.device)
        self.loading = measured_loading(self)
        self.args.workers = self.loading.workers
        super()._build_train_pipeline()
        if self.plan.extended:
            self.accumulate = min(self.accumulate, len(self.train_loader) * self.plan.extended[0])
        self.unlabelled = unlabelled_loader(self, self.plan.teaching.unlabelled)
        if self.plan.training.fraction < 1:
            number = len(self.train_loader.dataset)
            self.callback.log(f"training on the first {number} images: training.fraction is {self.args.fraction:g}")

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Build our loaders; the validation has batches as everywhere else."""
        if mode == "train":
            return loader_for(self, dataset_path, batch_size, rank)
        return validation_loader_for(self, dataset_path, self.plan.val_batch, rank)

    def get_validator(self) -> Any:
        """Build upstream's validator, which counts as many detections as in any other validation."""
        built = super().get_validator()
        built.args.max_det = DEFAULT_CFG.max_det
        built._check_max_det(built.args, {"val": self.test_loader.dataset})  # noqa: SLF001 - upstream does so for both sets
        return built

    def build_optimizer(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Build Ultralytics' optimizer with a separate learning rate for the head."""
        if self.plan.extended:  # auto chooses by the number of steps, which was the first training's
            kwargs["iterations"] = kwargs["iterations"] // self.epochs * self.plan.extended[0]
        if self.plan.samples is not None:  # which upstream counts by the images there are
            kwargs["iterations"] = math.ceil(self.plan.samples / max(self.batch_size, self.args.nbs)) * self.epochs
        built = super().build_optimizer(model, *args, **kwargs)
        head = self.student.model[-1]
        return optim.multiply_head(built, head, self.plan.training.head_lr_multiplier or 1.0)

    def optimizer_step(self) -> None:
        """Clip the gradient at the plan's norm and step."""
        self.scaler.unscale_(self.optimizer)
        optim.clip_gradients(self.network, self.student, self.plan.training.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)
        self.accumulation.stepped(self.epoch * len(self.train_loader) + self._batch)

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Go back to the last whole epoch when a value is not finite, the first one included."""
        epochs.await_state(self)
        figures = bool(self.loss.isfinite()) and math.isfinite(float(self.fitness or 0.0))
        if not comm.any_of(not (figures and models.is_finite(self.model))):
            return False
        self.nan_recovery_attempts += 1
        checkpoint.rollback(self, epoch, self.nan_recovery_attempts)
        return True

    def validate(self) -> tuple[dict[str, Any], Any]:
        """Run upstream's validation; only the first rank has the figures.

        The ranks share the images.
        """
        share = comm.share(len(self.test_loader))
        metrics, fitness = super().validate()
        return epochs.rescale_losses(metrics or {}, share), fitness

    def save_model(self) -> bool:
        """Publish the best network and the due checkpoint."""
        self.callback.alive("checkpoint")
        epochs.keep_networks(self)
        return True

    def final_eval(self) -> None:
        """Draw a distillation's pictures; the best epoch is measured and published."""
        self.callback.alive("setup")
        if self.stop_rule.reason is not None:
            done = self.epoch + 1
            self.callback.log(
                f"ended by training.{self.stop_rule.reason} after epoch {done} of {self.epochs}", epoch=done
            )
        if self.monitor is not None:
            self.monitor.finish(self)

    # What we tell and ask

    @property
    def network(self) -> Any:
        """The trained module with projectors, without the distributed wrapper."""
        return comm.unwrap(self.model)

    @property
    def student(self) -> Any:
        """The network being trained."""
        return self.network.student_model if isinstance(self.network, Distiller) else self.network

    def result(self) -> TrainResult:
        """Return the result of a finished training."""
        last = checkpoint.kept_path(self.plan, self.epoch + 1)
        return TrainResult(
            self.recovery.best(self.best_epoch), self.best_metrics, self.epoch + 1, self.best_epoch,
            self.stop_rule.reason, last if last.exists() else None, self.stop_rule.spent_s,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of loader processes, callbacks and memory, however the training ended."""
        epochs.abandon_state(self)
        release_memory(self)

    @property
    def at_end_of_epoch(self) -> bool:
        """Whether all batches of the epoch are done."""
        return self._batch == len(self.train_loader)

    def _start_epoch(self, _: Any) -> None:
        self._batch = self._num_images = 0
        self._began = time.monotonic()
        if self.epoch == self.epochs - self.args.close_mosaic:
            self.recovery.wait()  # loader processes are forked anew, better not beside a thread
        self._oom_retries = 3  # upstream would halve the batch for one of student and control; that is the service's
        self.accumulation.begin(self.network)
        reseed(self, self.plan.training.seed, self.epoch, self.nan_recovery_attempts)

    def _start_batch(self, _: Any) -> None:
        if isinstance(self.network, Distiller) and self.network.objective is not None:
            self.network.objective.epoch = self.epoch + self._batch / len(self.train_loader)

    def _end_batch(self, _: Any) -> None:
        self._batch += 1
        self.recovery.poll()
        if not self._told_layers:
            self._told_layers = True
            tell_optimisations(self)
        done = self.epoch + self._batch / len(self.train_loader)
        before = self.plan.extended[-1] if self.plan.extended else 0
        fraction = (done - before) / (self.epochs - before)
        if fraction - self._told >= PROGRESS or fraction == 1:
            self._told = fraction
            self.callback.progress(fraction)
        apply_requests(self)

    def _end_epoch(self, _: Any) -> None:
        self.tloss = comm.means(self.tloss.tensors())
        self.callback.trained(self._num_images * comm.size(), self._batch, time.monotonic() - self._began)

    def poll(self, _: Any = None) -> None:
        """Send a heartbeat; stop when requested."""
        poll(self)

    def _keep(self, _: Any) -> None:
        if comm.rank() == 0:
            epochs.keep_state(self)
        self.whole_epochs = self.epoch + 1
        apply_requests_between_epochs(self)

    def _report(self, _: Any) -> None:
        compared = self.teacher_metrics if (self.epoch + 1) % self.plan.training.checkpoint_every == 0 else {}
        measured = epochs.epoch_metrics(self)
        health = {} if self.monitor is None else self.monitor.end_epoch(self, measured)
        self.callback.metric(self.epoch + 1, {**measured, **health, **compared})
