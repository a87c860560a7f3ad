"""Watch one distillation: liveness checks, the probe of each epoch, and changed verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from retort.constants import MAP
from retort.training import comm
from retort.training.distillation.cached_teacher import CachedTeacher
from retort.training.distillation.objective import projector_key
from retort.training.health import metrics, visuals
from retort.training.health.checks import LivenessChecks, check_rank
from retort.training.health.metrics import MOST, Probe, first_teacher, network, spread
from retort.training.health.naming import naming
from retort.training.health.rules import RuleEngine, RuleInputs

if TYPE_CHECKING:
    from torch import Tensor

    from retort.training.config import TrainCallback, Trainer
    from retort.training.distillation.distiller import Distiller
    from retort.training.health.metrics import ForwardPass

Values = dict[str, float | None]


class Monitor:
    """Health monitor of a distillation, called at a trainer's events."""

    def __init__(self, trainer: Trainer, contract: LivenessChecks | None = None) -> None:
        model = network(trainer.model)
        self.checks = contract or LivenessChecks(model)
        self.rules = RuleEngine(rule_inputs(trainer))
        self.probe = Probe.of(_shown(trainer), imgsz=trainer.args.imgsz, device=trainer.device)
        self._callback: TrainCallback = trainer.callback
        self._names = names(model, trainer)
        self._drift = DriftProbe(model, self.probe)
        self._seen_batch = False

    def start(self, trainer: Trainer) -> None:
        """Check before the first batch; measure a student that has learned before.

        Raises:
            NotDistilling: the contract is broken.

        """
        self.checks.start(network(trainer.model), trainer.optimizer)
        assert trainer.distillation is not None, "a plain training is not watched"
        student, weights = None, trainer.plan.weights
        if weights is not None and self.rules.facts.teacher_map is not None:
            student = trainer.start_metrics.get(MAP)
        refuse = trainer.distillation.weak_teacher == "refuse"
        if said := check_rank(self.rules.facts.teacher_map, student, refuse=refuse):
            self._callback.log(said, "warning")

    def first_batch(self, trainer: Trainer, batch: dict[str, Any]) -> None:
        """Check the first batch before training on it; later batches pass.

        Raises:
            NotDistilling: the contract is broken.

        """
        if not self._seen_batch:
            self.checks.first_batch(network(trainer.model), batch)
            self._seen_batch = True

    def end_epoch(self, trainer: Trainer, measured: Mapping[str, float | None]) -> Values:
        """Check, probe and judge the epoch; return its health metrics.

        Its other metrics are *measured*.

        Raises:
            NotDistilling: the contract is broken.

        """
        model = network(trainer.model)
        items = {name: float(value) for name, value in trainer.tloss.items()}
        distilled = items.get("kd/weight", 0.0) > 0
        found: Values = {}
        if comm.rank() == 0:
            with comm.alone():
                found = metrics.measure(model, self.probe, partial(self._draw, trainer))
                found |= self._drift.measure(model, distilled=distilled)
                found |= self._names
            self._tell(trainer.epoch + 1, {**measured, **found})
        self.checks.epoch(model, items)
        return found

    def not_finite(self, epoch: int) -> None:
        """Judge an epoch that left the finite numbers."""
        self._tell(epoch, {"train/loss": None})

    def finish(self, trainer: Trainer) -> None:
        """Draw the student's averaged weights beside the teacher, for the report."""
        if comm.rank() > 0:
            return
        average = network(trainer.ema.ema)
        average.slots = network(trainer.model).slots
        try:
            with comm.alone():
                visuals.save(trainer.plan.folder / visuals.FILE, average, self.probe)
        finally:
            average.slots = ()

    def _draw(self, trainer: Trainer, forward: ForwardPass) -> None:
        """Draw where student and teacher differ, if this epoch's turn has come."""
        epoch = trainer.epoch + 1
        if visuals.due(epoch, trainer.plan.epochs):
            path = trainer.plan.folder / visuals.SHEET
            size = visuals.draw(path, network(trainer.model), self.probe, forward)
            self._callback.heatmaps(epoch, path, size)

    def _tell(self, epoch: int, values: Mapping[str, float | None]) -> None:
        for finding in self.rules.update(epoch, values):
            self._callback.health(finding)


def _shown(trainer: Trainer) -> Any:
    """Return the data set whose images are probed: the validation's, or those that a cached teacher has seen."""
    cached = trainer.plan.teaching.cache is not None
    return trainer.train_loader.dataset if cached else trainer.test_loader.dataset


def names(model: Distiller, trainer: Trainer) -> Values:
    """Compare the teacher's names with the labels' on more images than the probe has.

    Once is enough, as the teacher does not change.
    """
    if comm.rank() > 0:
        return {}
    dataset = _shown(trainer)
    chosen, taught = spread(dataset, NAMED_IMAGES), getattr(dataset, "taught", None)
    parts = (chosen[start : start + MOST] for start in range(0, len(chosen), MOST))
    sample = (Probe.load(part, imgsz=trainer.args.imgsz, device=trainer.device, taught=taught) for part in parts)
    with comm.alone():
        found = naming(model, sample)
    if found is None:
        return {}
    return {"health/teacher_agreement": found.agreement, "health/teacher_permuted": found.permuted}


NAMED_IMAGES = 64
"""Images in which the teacher's names are compared with the labels'."""


class DriftProbe:
    """Drift probe: the teacher should not move, the projectors should. A cached teacher cannot."""

    def __init__(self, model: Distiller, probe: Probe) -> None:
        self._images = probe.images
        self._first = None if isinstance(model.teacher, CachedTeacher) else self._ask(model, self._images)
        self._before = _weights(model)
        self._student = _witness(model)

    @torch.no_grad()
    def measure(self, model: Distiller, *, distilled: bool) -> Values:
        """Return the drift of teacher and projectors in an epoch.

        It is the teacher's largest change of confidence, and the smallest relative step of a projector. The teacher is
        asked as training asks it: the first images again, and one of them alone. Projectors move only in an epoch that
        *distilled*, and only when the optimizer took a step, which the student's weights tell.
        """
        found: Values = {}
        if self._first is not None:
            again, alone = self._ask(model, self._images), self._ask(model, self._images[:1])
            shifts = [(again - self._first).abs().max(), (alone - again[:1]).abs().max()]
            found["health/teacher_shift"] = float(torch.stack(shifts).max())
        weights, student = _weights(model), _witness(model)
        if distilled and weights and not torch.equal(student, self._student):
            steps = [(now - before).norm() / before.norm() for now, before in zip(weights, self._before, strict=True)]
            found["health/projector_step"] = float(torch.stack(steps).min())
        self._before, self._student = weights, student
        return found

    def _ask(self, model: Distiller, images: Tensor) -> Tensor:
        """Return the confidence at every position, (N, P)."""
        output = first_teacher(model)[0](images)
        return torch.cat([confidence.float().flatten(1) for confidence in output.confidence.values()], 1)


def rule_inputs(trainer: Trainer) -> RuleInputs:
    """Return the inputs of the rules beside measurements."""
    assert trainer.distillation is not None, "a plain training is not watched"
    return RuleInputs(
        teacher_map=trainer.teacher_metrics.get(MAP.replace("val/", "teacher/")),
        steps_per_epoch=len(trainer.train_loader),
        distillation=trainer.distillation,
        training=trainer.plan.training,
    )


def _weights(model: Distiller) -> list[Tensor]:
    """Copy the weights of each projector of a term with a weight, as one vector each."""
    losses = enumerate(first_teacher(model)[1].losses)
    keys = [projector_key(i, level) for i, loss in losses if loss.weight for level in getattr(loss, "levels", ())]
    projectors = [list(model.projectors[key].parameters()) for key in keys if key in model.projectors]
    return [torch.cat([p.detach().flatten().float() for p in parameters]) for parameters in projectors if parameters]


def _witness(model: Distiller) -> Tensor:
    """Copy one parameter of the student that moves whenever the optimizer steps."""
    return next(model.student_model.parameters()).detach().clone()
