"""Learning rates by parameter group: the head's multiplier, and the names under which rates are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def multiply_head(optimizer: Any, head: nn.Module, multiplier: float) -> Any:
    """Give the parameters of *head* groups of their own, at *multiplier* times the optimizer's base rate.

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


def learning_rates(optimizer: Any) -> dict[str, float]:
    """Present rate of each group: ``lr/weight``, and ``lr/weight_x3`` for one that is three times the base."""
    groups = [group for group in optimizer.param_groups if group["params"]]
    base = min(group["initial_lr"] for group in groups)
    found = {}
    for group in groups:
        ratio = group["initial_lr"] / base
        suffix = "" if abs(ratio - 1) < 1e-6 else f"_x{ratio:g}"
        found[f"lr/{group.get('param_group', 'all')}{suffix}"] = float(group["lr"])
    return found
