"""Gradient accumulation, and learning rates by parameter group."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retort.training.config import Cycle


def multiply_head(optimizer: Any, head: nn.Module, multiplier: float) -> Any:
    """Move *head*'s parameters to groups at *multiplier* times the base rate.

    At 1 the groups stay upstream's; its MuSGD trains the class branch three times as fast by itself.
    """
    if multiplier == 1:
        return optimizer
    base = min(group["lr"] for group in optimizer.param_groups if group["params"])
    wanted = {id(parameter) for parameter in head.parameters()}
    for group in list(optimizer.param_groups):
        chosen = [parameter for parameter in group["params"] if id(parameter) in wanted]
        if chosen:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in wanted]
            options = {key: value for key, value in group.items() if key != "params"}
            optimizer.add_param_group({**options, "params": chosen, "lr": base * multiplier})
    optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]
    return optimizer


def extended_rate(cycle: Cycle, lrf: float, *, cosine: bool) -> Callable[[float], float]:
    """Return the learning rate by epoch of an extended training.

    It is a part of the initial one, and a warm restart: the rate rises at once to what upstream's schedule had as many
    epochs before its end, and falls to the same end again.
    """

    def rate(epoch: float) -> float:
        way = min(max(cycle.place(epoch) / cycle.length, 0.0), 1.0)
        left = (1 + math.cos(math.pi * way)) / 2 if cosine else 1 - way
        return lrf + (1 - lrf) * left

    return rate


def clip_gradients(network: nn.Module, student: nn.Module, norm: float) -> None:
    """Clip the gradients of *student* and of projectors apart at *norm*.

    Projectors are the rest of *network*. In one norm with the student's, their gradient would make its step smaller
    than that of an undistilled control.
    """
    from torch.nn.utils import clip_grad_norm_

    own = list(student.parameters())
    seen = {id(parameter) for parameter in own}
    clip_grad_norm_(own, max_norm=norm)
    if rest := [parameter for parameter in network.parameters() if id(parameter) not in seen]:
        clip_grad_norm_(rest, max_norm=norm)


def learning_rates(optimizer: Any) -> dict[str, float]:
    """Return the present learning rate of each group.

    Its name is ``lr/weight``, and ``lr/weight_x3`` for one that is three times the base.
    """
    groups = [group for group in optimizer.param_groups if group["params"]]
    base = min(group["initial_lr"] for group in groups)
    found = {}
    for group in groups:
        ratio = group["initial_lr"] / base
        suffix = "" if abs(ratio - 1) < 1e-6 else f"_x{ratio:g}"
        found[f"lr/{group.get('param_group', 'all')}{suffix}"] = float(group["lr"])
    return found


class GradientAccumulation:
    """Record of the batch of the last optimizer step.

    Upstream's loop holds its number in a local variable. After a resume (and after going back) that loop believes that
    the last step was at -1, and would step at once, on a part of the gradients. What it compares with, ``accumulate``,
    is therefore made longer by *offset* until then.
    """

    def __init__(self) -> None:
        self.batches = 1
        """Batches from one step to the next, as upstream sets it."""
        self.offset = 0
        self.last_step = -1
        """Number of the batch, counted over all epochs from 0."""
        self._carried: Mapping[str, Tensor] | None = None

    def stepped(self, batch: int) -> None:
        """Note the optimizer step after *batch*."""
        self.last_step, self.offset = batch, 0

    def pending(self, num_batches: int) -> bool:
        """Return True if gradients wait after *num_batches* batches.

        They wait for a later step.
        """
        return self.last_step < num_batches - 1

    def restore(self, last_step: int, gradients: Mapping[str, Tensor]) -> None:
        """Restore the last step and the waiting gradients.

        They count from the start of the next epoch on, after upstream has cleared all.
        """
        self.last_step, self._carried = last_step, gradients

    def begin(self, model: Any) -> None:
        """Give *model* the waiting gradients in the first epoch after restoring."""
        if self._carried is None:
            return
        for name, parameter in model.named_parameters():
            if name in self._carried:
                parameter.grad = self._carried[name].to(parameter.device, copy=True)
        self.offset, self._carried = self.last_step + 1, None

    def start_over(self) -> None:
        """Forget the last step and all waiting gradients.

        The loader is rebuilt, and upstream counts from -1 with no gradients.
        """
        self.offset, self.last_step, self._carried = 0, -1, None
