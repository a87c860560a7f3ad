"""Looking at a student and its teacher on a batch, with gradients but without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from retort.names import Level
from retort.training import parallel
from retort.training.distillation import assignment, taps
from retort.training.distillation.tutor import learn

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retort.training.distillation.objective import Objective
    from retort.training.distillation.resolution import Resized
    from retort.training.distillation.student import Distiller
    from retort.training.distillation.teacher import Lesson, Teacher


@dataclass(frozen=True, slots=True)
class View:
    """What both networks say of one batch."""

    features: Mapping[Level, Tensor]
    """The student's, (N, C, H, W); they carry gradient."""
    branches: Mapping[str, taps.Raw]
    lessons: Sequence[Lesson]
    """One of each teacher."""
    task: Tensor
    """The task loss of the batch per image, a scalar with gradient."""

    @property
    def lesson(self) -> Lesson:
        """The first teacher's."""
        return self.lessons[0]


def network(model: Any) -> Distiller:
    """Return the network inside what parallel training has wrapped around it."""
    return cast("Distiller", parallel.unwrap(model))


def teaching(model: Distiller) -> tuple[Teacher | Resized, Objective]:
    """Return the first teacher beside the student and what is learned from it."""
    first = model.tutors[0]
    return first.teacher, first.objective


def look(model: Distiller, batch: dict[str, Any]) -> View:
    """Run student and teachers on the labelled images of *batch*, as ``Distiller.loss`` does."""
    images, first = batch["img"], teaching(model)[1]
    features, branches = taps.forward(model.student_model, images, middles=first.crosses)
    lessons = [one.teacher(images) for one in model.tutors]
    with assignment.by(first.answers(lessons[0], len(images)), model.student_model):
        task, _ = model.student_model.loss(batch, taps.upstream_form(branches))  # type: ignore[operator]
    return View(features, branches, lessons, task.sum() / len(images))


def objective(model: Distiller, view: View) -> Tensor:
    """Return the distillation loss at its present weight, without counting as a step of its balance."""
    tutors = [replace(one, objective=deepcopy(one.objective)) for one in model.tutors]
    total, _ = learn(tutors, view.lessons, (view.features, view.branches), view.task, model.projectors)
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
