"""The gradient's norm is clipped for the student alone."""

from __future__ import annotations

import torch
from retort.training.optim import clip_gradients
from torch import nn


def network(projector_gradient: float) -> nn.ModuleDict:
    """A student whose gradient is longer than 10, beside a projector with a gradient of this size."""
    made = nn.ModuleDict({"student": nn.Linear(4, 3), "projector": nn.Conv2d(2, 2, 1)})
    torch.manual_seed(0)
    for parameter in made["student"].parameters():
        parameter.grad = torch.randn_like(parameter) * 20
    for parameter in made["projector"].parameters():
        parameter.grad = torch.full_like(parameter, projector_gradient)
    return made


def test_a_projectors_gradient_does_not_shorten_the_students_step() -> None:
    """Under SGD the task's step of a distilled student was a third smaller than its control's."""
    control, distilled = network(0.0)["student"], network(1e6)
    clip_gradients(control, control, 10.0)
    clip_gradients(distilled, distilled["student"], 10.0)

    own = [parameter.grad for parameter in distilled["student"].parameters()]
    for ours, theirs in zip(own, [parameter.grad for parameter in control.parameters()], strict=True):
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours, theirs)
    assert torch.stack([g.norm() for g in own if g is not None]).norm() < 10.001


def test_the_projectors_are_clipped_apart() -> None:
    made = network(1e6)
    clip_gradients(made, made["student"], 10.0)

    norms = [parameter.grad.norm() for parameter in made["projector"].parameters() if parameter.grad is not None]
    assert 9.99 < torch.stack(norms).norm() < 10.001
