"""Balance loss terms by their share of the task loss or gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import distributed

from retort.training import comm

if TYPE_CHECKING:
    from torch import Tensor

CALIBRATION_STEPS = 50
"""Steps over which ``balance: task_loss`` measures each term before its scale is frozen."""
MEASURE_EVERY = 32
"""Steps between two measurements of ``balance: gradient``, each of which costs part of a backward pass."""
MEMORY = 8
"""Measurements that the running mean of ``balance: gradient`` remembers."""
LARGEST_SCALE = 1e4
"""A term that is almost zero while it is measured must not explode when it wakes up."""
_LIFT = 1024.0
"""Keeps gradients measured in half precision out of its subnormal numbers; ratios do not feel it."""


class Balance(Protocol):
    """Balance that scales each term, (T,), without leaving the device."""

    def __call__(self, task: Tensor, terms: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        """Return the scales for this step.

        task: the task loss per image, a scalar with its graph
        terms: each unweighted term, a scalar with its graph
        shared: the student's feature maps through which task and terms reach the rest of it
        """

    def state(self) -> dict[str, Any]:
        """Return the measurements of the balance, in plain values."""

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore ``state()`` exactly: float32 converts to Python numbers without loss."""


class TaskLossBalance:
    """Balance of term weights by the task loss.

    A weight is the term's share of the task loss, by means over the first steps.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._task: Tensor | None = None
        self._terms: Tensor | None = None
        self._scales: Tensor | None = None

    def __call__(self, task: Tensor, terms: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Return a running scale until the measurement ends, then the frozen one."""
        if self._scales is None or self._steps < CALIBRATION_STEPS:
            # The same on every rank, or each would distil by scales of its own.
            measured = _over_ranks(torch.stack([term.detach() for term in terms]))
            self._task = _over_ranks(task.detach()) + (0 if self._task is None else self._task)
            self._terms = measured + (0 if self._terms is None else self._terms)
            self._scales = (self._task / self._terms.clamp(min=1e-12)).clamp(max=LARGEST_SCALE)
            self._steps += 1
        return self._scales

    def state(self) -> dict[str, Any]:
        """Return the measurements of the balance, in plain values."""
        kept = {"task": self._task, "terms": self._terms, "scales": self._scales}
        return {"steps": self._steps, **{n: None if value is None else value.tolist() for n, value in kept.items()}}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore the measurements of ``state()``."""
        self._steps = state["steps"]
        self._task, self._terms, self._scales = (
            None if state[name] is None else torch.tensor(state[name], device=device)
            for name in ("task", "terms", "scales")
        )


class GradientBalance:
    """Balance of term weights by gradient norms.

    A weight is the share of the gradient: the norm of the weighted term's gradient over that of the task's. Both are
    measured at the feature maps that the student's head reads, where task and distillation meet, as RT-DETRv4 does
    (arXiv 2510.25257), and again every so many steps: a term keeps its share while the losses fall.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._measured = 0
        self._norms: Tensor | None = None
        """Running means: the task's, then each term's."""

    def __call__(self, task: Tensor, terms: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        """Return the ratio of the norms for each term."""
        if self._norms is None or self._steps % MEASURE_EVERY == 0:
            norms = torch.stack([gradient_norm(value, shared) for value in (task, *terms)])
            self._remember(_over_ranks(norms))  # the same on every rank
        self._steps += 1
        assert self._norms is not None
        return (self._norms[0] / self._norms[1:].clamp(min=1e-12)).clamp(max=LARGEST_SCALE)

    def state(self) -> dict[str, Any]:
        """Return the measurements of the balance, in plain values."""
        norms = None if self._norms is None else self._norms.tolist()
        return {"steps": self._steps, "measured": self._measured, "norms": norms}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore the measurements of ``state()``."""
        self._steps, self._measured = state["steps"], state["measured"]
        self._norms = None if state["norms"] is None else torch.tensor(state["norms"], device=device)

    def measure_next(self) -> None:
        """Measure in the next step, whatever its number."""
        self._steps = 0

    def _remember(self, norms: Tensor) -> None:
        self._measured += 1
        if self._norms is None:
            self._norms = norms
            return
        # A step whose half precision overflowed tells nothing.
        norms = torch.where(norms.isfinite(), norms, self._norms)
        self._norms = self._norms.lerp(norms, 1 / min(self._measured, MEMORY))


def _over_ranks(value: Tensor) -> Tensor:
    """Return the mean of a detached *value* over the ranks, where there are several: the same on each."""
    return comm.mean(value) if distributed.is_initialized() else value


def gradient_norm(value: Tensor, at: Sequence[Tensor]) -> Tensor:
    """Return the gradient norm of the scalar *value* at *at*.

    The gradient is with respect to all of *at*; the norm is up to a constant factor.
    """
    if not value.requires_grad:
        return torch.zeros((), device=value.device)
    found = torch.autograd.grad(value.float() * _LIFT, at, retain_graph=True, allow_unused=True)
    norms = [gradient.float().norm() for gradient in found if gradient is not None]
    return torch.stack(norms).norm() if norms else torch.zeros((), device=value.device)


BALANCES: dict[str, type[TaskLossBalance | GradientBalance] | None] = {
    "none": None,
    "task_loss": TaskLossBalance,
    "gradient": GradientBalance,
}
"""By the spec's names."""
