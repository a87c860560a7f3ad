"""Looking at a student and its teacher on a batch, with gradients but without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from retort.names import Level
from retort.training import taps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retort.training.objective import Objective
    from retort.training.student import Distiller
    from retort.training.teacher import Lesson, Teacher


@dataclass(frozen=True, slots=True)
class View:
    """What both networks say of one batch."""

    features: Mapping[Level, Tensor]
    """The student's, (N, C, H, W); they carry gradient."""
    branches: Mapping[str, taps.Raw]
    lesson: Lesson
    task: Tensor
    """The task loss of the batch per image, a scalar with gradient."""


def network(model: Any) -> Distiller:
    """Return the network inside what parallel training has wrapped around it."""
    return cast("Distiller", getattr(model, "module", model))


def teaching(model: Distiller) -> tuple[Teacher, Objective]:
    """Return the teacher beside the student and what is learned from it."""
    assert model.teacher is not None
    assert model.objective is not None
    return model.teacher, model.objective


def look(model: Distiller, batch: dict[str, Any]) -> View:
    """Run both networks on *batch*, as ``Distiller.loss`` does."""
    teacher, _ = teaching(model)
    features, branches = taps.forward(model.student_model, batch["img"])
    task, _ = model.student_model.loss(batch, taps.upstream_form(branches))  # type: ignore[operator]
    return View(features, branches, teacher(batch["img"]), task.sum() / len(batch["img"]))


def objective(model: Distiller, view: View) -> Tensor:
    """Return the distillation loss at its present weight, without counting as a step of its balance."""
    _, spec = teaching(model)
    total, _ = deepcopy(spec)(view.features, view.branches, view.lesson, view.task.detach(), model.projectors)
    return total


@contextmanager
def undisturbed(model: Distiller) -> Iterator[None]:
    """Put back what a forward pass changes: modes, statistics of batch normalisation, random streams."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def gradient(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the gradient of *loss* with respect to all *parameters* as one vector, (P,); ``.grad`` is not touched."""
    if not loss.requires_grad:
        return torch.zeros(sum(parameter.numel() for parameter in parameters), device=loss.device)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten().float() for g, p in pairs])


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training changes."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
