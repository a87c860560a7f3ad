"""The distillation objective: every term on one batch, weighted, balanced and scheduled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from retort.errors import ModelError
from retort.losses import FeatureLoss, HeadLoss, Loss
from retort.names import Level
from retort.spec import DistillationSpec
from retort.training import parallel, schedule
from retort.training.predictions import Decoder
from retort.training.taps import Raw, Taps, check_strides

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retort.training.teacher import Lesson

CALIBRATION_STEPS = 50
"""Steps over which ``balance: task_loss`` measures each term before its scale is frozen."""
LARGEST_SCALE = 1e4
"""A term that is almost zero while it is measured must not explode when it wakes up."""


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The classes that both networks name, as paired indices; None where all of them correspond one to one."""

    student: Tensor | None
    teacher: Tensor | None
    size: int

    @classmethod
    def between(cls, student: Mapping[int, str], teacher: Mapping[int, str]) -> ClassMap:
        """Match names as upstream does: without case and outer space."""
        known = {_plain(name): index for index, name in reversed(list(teacher.items()))}
        pairs = [(index, known[_plain(name)]) for index, name in student.items() if _plain(name) in known]
        if pairs == [(index, index) for index in range(len(teacher))] and len(student) == len(teacher):
            return cls(None, None, len(pairs))
        ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        return cls(torch.tensor(ours, dtype=torch.long), torch.tensor(theirs, dtype=torch.long), len(pairs))

    def to(self, device: torch.device) -> ClassMap:
        """Return the same map on *device*."""
        if self.student is None or self.teacher is None:
            return self
        return ClassMap(self.student.to(device), self.teacher.to(device), self.size)


def _plain(name: str) -> str:
    return str(name).strip().lower()


class Balance:
    """Scales each term so that its weight is its share of the task loss, by means over the first steps."""

    def __init__(self, num_terms: int) -> None:
        self._num_terms = num_terms
        self._steps = 0
        self._task: Tensor | None = None
        self._terms: Tensor | None = None
        self._scales: Tensor | None = None

    def __call__(self, task: Tensor, terms: list[Tensor]) -> Tensor:
        """Return the scale of each term, (T,); a running one until the measurement ends. Nothing leaves the device."""
        if self._scales is None or self._steps < CALIBRATION_STEPS:
            # The same on every rank, or each would distil by scales of its own.
            measured = parallel.mean(torch.stack([term.detach() for term in terms]))
            self._task = parallel.mean(task) + (0 if self._task is None else self._task)
            self._terms = measured + (0 if self._terms is None else self._terms)
            self._scales = (self._task / self._terms.clamp(min=1e-12)).clamp(max=LARGEST_SCALE)
            self._steps += 1
        return self._scales


class Objective:
    """Evaluates the terms of *spec* between one student and one teacher.

    Raises:
        ModelError: a loss of the spec cannot compare these two networks.

    """

    def __init__(
        self,
        spec: DistillationSpec,
        *,
        student: Any,
        teacher: Any,
        device: torch.device,
        epochs: int,
        close_mosaic: int,
    ) -> None:
        check_strides(student, teacher)
        self.spec = spec
        self.losses: tuple[Loss, ...] = spec.losses
        self.labels = labels(self.losses)
        self.classes = ClassMap.between(student.names, teacher.names).to(device)
        check(self.losses, student, teacher, self.classes)
        self.epoch = 0.0
        """Fractional epoch, counted from 0; the trainer moves it."""
        self._factor: Callable[[float], float] = lambda epoch: schedule.factor(
            spec.schedule, epoch, epochs=epochs, close_mosaic=close_mosaic
        )
        self._weights = torch.tensor([loss.weight for loss in self.losses], device=device)
        self._decoders = Decoder(student.stride), Decoder(teacher.stride)
        self._balance = Balance(len(self.losses)) if spec.balance == "task_loss" else None

    @property
    def weight(self) -> float:
        """Factor of the schedule now."""
        return self._factor(self.epoch)

    def silent(self, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what a step without distillation adds: nothing, under the same labels."""
        zero = torch.zeros((), device=device)
        return zero, dict.fromkeys([*(f"kd/{label}" for label in self.labels), "kd_loss", "kd/weight"], zero)

    def __call__(
        self,
        features: Mapping[Level, Tensor],
        branches: Mapping[str, Raw],
        lesson: Lesson,
        task: Tensor,
        projectors: nn.ModuleDict,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of all terms and each weighted term, detached, by label.

        *task* is the task loss of the batch per image, a scalar that is measured only.
        """
        terms = self.terms(features, branches, lesson, projectors)
        weights = self._weights * self.weight
        if self._balance is not None:
            weights = weights * self._balance(task, terms)
        weighted = torch.stack(terms) * weights
        total = weighted.sum()
        parts = weighted.detach()
        items = {f"kd/{label}": parts[index] for index, label in enumerate(self.labels)}
        return total, {**items, "kd_loss": total.detach(), "kd/weight": torch.full_like(parts[0], self.weight)}

    def terms(
        self,
        features: Mapping[Level, Tensor],
        branches: Mapping[str, Raw],
        lesson: Lesson,
        projectors: nn.ModuleDict,
    ) -> list[Tensor]:
        """Return each term unweighted: mean over the branches compared, or sum over the levels."""
        heads = self._heads(branches, lesson) if any(isinstance(loss, HeadLoss) for loss in self.losses) else []
        found = []
        for index, loss in enumerate(self.losses):
            if isinstance(loss, FeatureLoss):
                values = [
                    loss(
                        projectors[projector_key(index, level)](features[level]),
                        lesson.features[level],
                        lesson.confidence[level],
                    )
                    for level in loss.levels
                ]
                found.append(torch.stack(values).sum())
            elif isinstance(loss, HeadLoss):
                found.append(torch.stack([loss(ours, theirs) for ours, theirs in heads]).mean())
        return found

    def _heads(self, branches: Mapping[str, Raw], lesson: Lesson) -> list[tuple[Any, Any]]:
        """Pair the branches that both heads have: one2many, and one2one only with one2one."""
        ours, theirs = self._decoders
        return [
            (ours(branches[name], self.classes.student), theirs(lesson.branches[name], self.classes.teacher))
            for name in branches
            if name in lesson.branches
        ]


def labels(losses: tuple[Loss, ...]) -> list[str]:
    """Name each term by its kind; the second of a kind is ``<kind>.2``."""
    named: list[str] = []
    for loss in losses:
        kind = str(type(loss).model_fields["kind"].default)
        count = sum(1 for label in named if label.split(".")[0] == kind)
        named.append(f"{kind}.{count + 1}" if count else kind)
    return named


def projector_key(index: int, level: Level) -> str:
    """Key of the projector of one loss at one level."""
    return f"{index}_{level}"


def check(losses: tuple[Loss, ...], student: Any, teacher: Any, classes: ClassMap) -> None:
    """Insist that each loss can compare these networks: classes by name, and distance bins."""
    bins = student.model[-1].reg_max, teacher.model[-1].reg_max
    for label, loss in zip(labels(losses), losses, strict=True):
        if loss.needs_classes and classes.size == 0:
            message = f"the loss {label} needs class names in common; student and teacher have none"
            raise ModelError(message, hint="a teacher trained on these classes, or feature losses only")
        if label.startswith("softmax_kl") and classes.size < 2:
            message = "the loss softmax_kl is always zero for a single class; student and teacher have one in common"
            raise ModelError(message, hint="use class_logits")
        if loss.needs_bins and (bins[0] != bins[1] or bins[0] < 2):
            message = f"the loss {label} needs equal numbers of distance bins; student has {bins[0]}, teacher {bins[1]}"
            raise ModelError(message, hint="use box_giou, which compares decoded boxes")


def projectors(losses: tuple[Loss, ...], student: Any, teacher: Any) -> nn.ModuleDict:
    """Build the trainable projectors of all feature losses, one for each loss and level."""
    from torch import nn

    widths = [channels(model) for model in (student, teacher)]
    found: dict[str, nn.Module] = {}
    for index, loss in enumerate(losses):
        if isinstance(loss, FeatureLoss):
            for level in loss.levels:
                found[projector_key(index, level)] = loss.build(widths[0][level], widths[1][level])
    return nn.ModuleDict(found)


@torch.no_grad()
def channels(model: Any) -> dict[Level, int]:
    """Measure the number of channels at each level, without touching the network's statistics."""
    from retort.training.taps import forward

    was_training = model.training
    model.eval()
    try:
        parameter = next(model.parameters())
        features, _ = forward(model, torch.zeros(1, 3, 64, 64, device=parameter.device, dtype=parameter.dtype))
    finally:
        model.train(was_training)
    return {level: features[level].shape[1] for level in Taps.of(model).layers}
