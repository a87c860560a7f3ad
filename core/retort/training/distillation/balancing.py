"""Balance loss terms by task loss or gradient; measure their agreement with the task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import distributed

from retort.training import comm

if TYPE_CHECKING:
    from torch import Tensor

    from retort.losses import Predictions

CALIBRATION_STEPS = 50
"""Steps over which ``balance: task_loss`` measures each term before its scale is frozen."""
FIRST_STEPS = 32
"""Steps that ``balance: gradient`` measures each, as the gradients change fastest at the start."""
EVERY = 8, 32
"""Steps between two later measurements, each of which costs part of a backward pass: an eighth of an epoch, in these
bounds."""
MEMORY = 16, 256
"""Steps that running means remember: an epoch, in these bounds; the fewest at the start."""
LARGEST_SCALE = 1e4
"""A term that is almost zero while it is measured must not explode when it wakes up."""
_LIFT = 1024.0
"""Keeps gradients measured in half precision out of its subnormal numbers; ratios do not feel it."""


class Balance(Protocol):
    """Balance that scales each term, (T,), without leaving the device."""

    def __call__(
        self, task: Tensor, terms: Sequence[Tensor], shared: Sequence[Tensor], *, objects: bool = True
    ) -> Tensor:
        """Return the scales for this step; zeros while nothing is known.

        task: the task loss per image, a scalar with its graph
        terms: each unweighted term, a scalar with its graph
        shared: the student's feature maps through which task and terms reach the rest of it
        objects: whether the batch has labelled objects; of one without, nothing is remembered
        """

    def pace(self, steps_per_epoch: int) -> None:
        """Adapt to the length of an epoch."""

    def state(self) -> dict[str, Any]:
        """Return the measurements of the balance, in plain values."""

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore ``state()`` exactly: float32 converts to Python numbers without loss."""


class RunningMean:
    """Running mean of a vector whose unknown elements are skipped.

    Each element has a mass of its own, by which its sum is divided, so that the first values count in full (the bias
    correction of Adam, Kingma and Ba, 2015).
    """

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        self.mass: Tensor | None = None

    def add(self, value: Tensor, known: Tensor, keep: float) -> None:
        """Add *value* where *known*, keeping the share *keep* of what was there.

        Elements that are not known keep all of it.
        """
        if self.sums is None or self.mass is None:
            self.sums, self.mass = torch.zeros_like(value), torch.zeros_like(value)
        rate = 1 - keep if keep < 1 else 1.0
        self.sums = torch.where(known, self.sums * keep + value * rate, self.sums)
        self.mass = torch.where(known, self.mass * keep + rate, self.mass)

    def mean(self) -> Tensor:
        """Return the mean of each element; not a number where none is known."""
        assert self.sums is not None
        assert self.mass is not None
        return self.sums / self.mass

    def state(self) -> dict[str, Any]:
        """Return sums and masses as plain values."""
        return {
            "sums": None if self.sums is None else self.sums.tolist(),
            "mass": None if self.mass is None else self.mass.tolist(),
        }

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore ``state()``."""
        self.sums, self.mass = (
            None if state.get(name) is None else torch.tensor(state[name], device=device) for name in ("sums", "mass")
        )


class TaskLossBalance:
    """Balance of term weights by the task loss.

    A weight is the term's share of the task loss, by means over the first steps whose batches have objects.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._losses = RunningMean()

    def __call__(
        self, task: Tensor, terms: Sequence[Tensor], shared: Sequence[Tensor], *, objects: bool = True
    ) -> Tensor:
        """Return a running scale until the measurement ends, then the frozen one."""
        del shared  # only gradients are measured there
        if self._steps < CALIBRATION_STEPS:
            _measure(self._losses, torch.stack([value.detach() for value in (task, *terms)]), objects=objects, keep=1)
            self._steps += 1
        return _scales(self._losses)

    def pace(self, steps_per_epoch: int) -> None:
        """Need no pace: the scale is frozen after the first steps."""

    def state(self) -> dict[str, Any]:
        """Return the measurements of the balance, in plain values."""
        return {"steps": self._steps, **self._losses.state()}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore the measurements of ``state()``."""
        self._losses.restore(state, device)
        self._steps = state["steps"] if self._losses.sums is not None else 0


class GradientMeter:
    """Running measurement of the gradients of the task and of each term.

    They are measured at the feature maps that the student's head reads, where task and distillation meet: in each of
    the first steps, then several times in an epoch, so that what follows from them follows gradients that change within
    one. The running means remember an epoch at most.
    """

    def __init__(self, steps_per_epoch: int | None = None) -> None:
        self._steps = 0
        self._measured_at = -1
        self._norms = RunningMean()
        """The task's, then each term's."""
        self._cosines = RunningMean()
        """Of each term's gradient and the task's."""
        self.every, self.memory = EVERY[1], MEMORY[1]
        if steps_per_epoch is not None:
            self.pace(steps_per_epoch)

    def pace(self, steps_per_epoch: int) -> None:
        """Measure eight times in an epoch and remember one, within bounds in steps."""
        self.every = min(max(steps_per_epoch // 8, EVERY[0]), EVERY[1])
        self.memory = min(max(steps_per_epoch, MEMORY[0]), MEMORY[1])

    def observe(self, task: Tensor, terms: Sequence[Tensor], shared: Sequence[Tensor], *, objects: bool = True) -> None:
        """Measure the gradients of this step if its turn has come.

        The arguments are those of a balance.
        """
        if self._steps < FIRST_STEPS or self._steps - self._measured_at >= self.every:
            norms, cosines = compare_gradients(task, terms, shared)
            memory = min(max(self._steps, MEMORY[0]), self.memory)
            keep = math.exp(-(self._steps - self._measured_at) / memory)
            _measure(self._norms, norms, objects=objects, keep=keep)
            _measure(self._cosines, cosines, objects=objects, keep=keep)
            self._measured_at = self._steps
        self._steps += 1

    def cosines(self) -> Tensor:
        """Return the mean cosine of each term's gradient and the task's, (T,).

        It is 0 where it is not known.
        """
        return self._cosines.mean().nan_to_num()

    def lengths(self) -> Tensor:
        """Return the mean norm of each term's gradient over the task's, (T,).

        It is 0 where it is not known.
        """
        means = self._norms.mean()
        return (means[1:] / means[0]).nan_to_num(posinf=0.0)

    def state(self) -> dict[str, Any]:
        """Return the measurements in plain values."""
        measured = {"steps": self._steps, "measured_at": self._measured_at, **self._norms.state()}
        return {**measured, "cosines": self._cosines.state()}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore the measurements of ``state()``; those of an earlier version know no cosines."""
        self._steps, self._measured_at = state["steps"], state.get("measured_at", -1)
        self._norms.restore(state, device)
        self._cosines.restore(state.get("cosines", {}), device)
        if self._norms.sums is not None and self._cosines.sums is None:
            blank = torch.zeros_like(self._norms.sums[1:])
            self._cosines.sums, self._cosines.mass = blank, blank.clone()

    def measure_next(self) -> None:
        """Measure in the next step, whatever its number."""
        self._measured_at = self._steps - self.every


class GradientBalance(GradientMeter):
    """Balance of term weights by gradient norms.

    A weight is the share of the gradient: the norm of the weighted term's gradient over that of the task's, as in
    RT-DETRv4 (arXiv 2510.25257).
    """

    def __call__(
        self, task: Tensor, terms: Sequence[Tensor], shared: Sequence[Tensor], *, objects: bool = True
    ) -> Tensor:
        """Return the ratio of the norms for each term."""
        self.observe(task, terms, shared, objects=objects)
        return _scales(self._norms)


AGREES = 0.1
"""Mean cosine from which on ``agreement: gate`` leaves a term its whole weight."""


def gate(cosines: Tensor) -> Tensor:
    """Return the factor on each term's weight by mean cosine, (T,) to (T,).

    The cosine is of its gradient and the task's. The factor is 0 where the term opposes the task, 1 where it agrees,
    and a smooth step between. Du et al. (arXiv 1812.02224) take the cosine itself; but gradients of many dimensions
    that want the same thing have small ones, and what a weight means would be lost.
    """
    way = (cosines / AGREES).clamp(0, 1)
    return way.square() * (3 - 2 * way)


def opposed(weights: Tensor, cosines: Tensor, lengths: Tensor) -> Tensor:
    """Return how much of the task's gradient the weighted terms undo.

    It is a scalar of at least 0. The component of a term's gradient along the task's is ``cosine * length`` times the
    latter. Gradient surgery (Yu et al., NeurIPS 2020) takes it away where it is negative. Where the gradients meet they
    are added, so that it is the same to add as much of the task's: a factor on the task loss, without another pass.
    """
    return (weights * lengths * (-cosines).clamp(min=0)).sum()


class ClassMass:
    """Mean over batches of how much a teacher sees of each class.

    It weighs the classes of the next step (``Predictions.class_weights``): by one batch alone a rare class would be
    loud in one step and unknown in the next.
    """

    def __init__(self) -> None:
        self._mass = RunningMean()
        self._steps = 0
        self.memory = MEMORY[1]

    def pace(self, steps_per_epoch: int) -> None:
        """Remember an epoch, within bounds in steps."""
        self.memory = min(max(steps_per_epoch, MEMORY[0]), MEMORY[1])

    def add(self, teacher: Predictions) -> None:
        """Add the teacher's predictions for a batch."""
        mass = _over_ranks(teacher.class_mass().detach().float())
        self._mass.add(mass, mass.isfinite(), math.exp(-1 / min(max(self._steps, MEMORY[0]), self.memory)))
        self._steps += 1

    def mean(self) -> Tensor | None:
        """Return the mean mass, (K,); None before the first batch."""
        return None if self._mass.sums is None else self._mass.mean().nan_to_num()

    def state(self) -> dict[str, Any]:
        """Return what is remembered, in plain values."""
        return {"steps": self._steps, **self._mass.state()}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore ``state()``; an empty state changes nothing."""
        if state:
            self._steps = state["steps"]
            self._mass.restore(state, device)


def _measure(kept: RunningMean, values: Tensor, *, objects: bool, keep: float) -> None:
    """Remember *values* of a step: the task's, then each term's.

    A step whose half precision overflowed tells nothing, nor does a batch without objects, whose task teaches the
    background alone. Over ranks, the mean of those that know something; it is the same on each, or each would distil by
    scales of its own.
    """
    known = values.isfinite() & objects
    both = _over_ranks(torch.stack([torch.where(known, values, 0.0), known.to(values.dtype)]))
    kept.add(both[0] / both[1].clamp(min=1e-12), both[1] > 0, keep)


def _scales(kept: RunningMean) -> Tensor:
    """Return the task's mean over each term's, bounded; zero where one is not known."""
    means = kept.mean()
    ratio = (means[0] / means[1:].clamp(min=1e-12)).clamp(max=LARGEST_SCALE)
    return torch.where(ratio.isfinite(), ratio, 0.0)


def _over_ranks(value: Tensor) -> Tensor:
    """Return the mean of a detached *value* over the ranks, where there are several: the same on each."""
    return comm.mean(value) if distributed.is_initialized() else value


def gradient_norm(value: Tensor, at: Sequence[Tensor]) -> Tensor:
    """Return the gradient norm of the scalar *value* at *at*.

    The gradient is with respect to all of *at*; the norm is up to a constant factor.
    """
    return _norm(_gradients(value, at), value.device)


def compare_gradients(task: Tensor, terms: Sequence[Tensor], at: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return norms and cosines of the gradients at *at*.

    The norms are the task's, then each term's, (1 + T,); the cosines each term's with the task's, (T,). A cosine is not
    a number where one of its gradients is zero or not finite.
    """
    device, reference = task.device, _gradients(task, at)
    norms, dots = [_norm(reference, device)], []
    for term in terms:
        found = _gradients(term, at)
        norms.append(_norm(found, device))
        pairs = [
            (a.float() * b.float()).sum() for a, b in zip(reference, found, strict=True) if not (a is None or b is None)
        ]
        dots.append(torch.stack(pairs).sum() if pairs else torch.zeros((), device=device))
    both = torch.stack(norms)
    product = both[0] * both[1:]
    return both, torch.where(product > 0, torch.stack(dots) / product, torch.nan)


def _gradients(value: Tensor, at: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the lifted gradient of *value* at each of *at*.

    None stands where there is none.
    """
    trained = [features for features in at if features.requires_grad]  # those of frozen layers have no gradient
    if not trained or not value.requires_grad:
        return [None] * len(trained)
    return list(torch.autograd.grad(value.float() * _LIFT, trained, retain_graph=True, allow_unused=True))


def _norm(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    norms = [gradient.float().norm() for gradient in gradients if gradient is not None]
    return torch.stack(norms).norm() if norms else torch.zeros((), device=device)


BALANCES: dict[str, type[TaskLossBalance | GradientBalance] | None] = {
    "none": None,
    "task_loss": TaskLossBalance,
    "gradient": GradientBalance,
}
"""By the spec's names."""
