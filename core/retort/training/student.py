"""The student in training: the network and its projectors, with the teacher at hand but not inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retort.spec import DistillationSpec
from retort.training import assignment, taps
from retort.training.networks import seeded
from retort.training.objective import Objective, projectors
from retort.training.teacher import Teacher
from retort.training.upstream import copy_attr

if TYPE_CHECKING:
    from torch import Tensor


class Distiller(nn.Module):
    """What upstream's trainer trains in place of the student.

    Upstream looks for the name ``student_model`` when it groups parameters and sets class weights. Teacher and
    objective are dropped by copies and pickles, so EMA and checkpoints hold the student and the projectors only.
    """

    def __init__(self, student: nn.Module, adapters: nn.ModuleDict, teacher: Teacher, objective: Objective) -> None:
        super().__init__()
        copy_attr(self, student)  # names, nc, args, yaml, stride: what trainer and validator ask a model for
        self.student_model = student
        self.projectors = adapters
        self.teacher: Teacher | None = teacher
        self.objective: Objective | None = objective

    def __getstate__(self) -> dict[str, Any]:
        """Leave teacher and objective behind."""
        return {**self.__dict__, "teacher": None, "objective": None}

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch (dict), or the student's predictions for images."""
        if isinstance(x, dict):
            return self.loss(x, *args, **kwargs)
        return self.student_model(x, *args, **kwargs)

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss times batch size, the distillation loss appended, and each item detached.

        Outside training the task loss alone: nothing is learned from a teacher there.
        """
        if not self.training or self.teacher is None or self.objective is None:
            found: tuple[Tensor, dict[str, Tensor]] = self.student_model.loss(batch, preds)  # type: ignore[operator]
            return found
        images = batch["img"]
        features, branches = taps.forward(self.student_model, images, middles=self.objective.crosses)
        lesson = self.teacher(images, fleeting=True) if self.objective.weight > 0 else None
        with assignment.by(self.objective.answers(lesson), self.student_model):
            task, items = self.student_model.loss(batch, taps.upstream_form(branches))  # type: ignore[operator]
        if lesson is not None:
            per_image = task.sum() / len(images)
            total, parts = self.objective(features, branches, lesson, per_image, self.projectors)
        else:
            total, parts = self.objective.silent(images.device)
        return torch.cat([task, total[None] * len(images)]), {**items, **parts}

    @property
    def criterion(self) -> Any:
        """The student's, which upstream updates after each epoch."""
        return self.student_model.criterion

    @property
    def end2end(self) -> bool:
        """Which branch the student predicts from."""
        return bool(self.student_model.end2end)

    @end2end.setter
    def end2end(self, value: bool) -> None:
        self.student_model.end2end = value  # type: ignore[assignment]

    def set_head_attr(self, **kwargs: Any) -> None:
        """Set attributes of the student's head."""
        self.student_model.set_head_attr(**kwargs)  # type: ignore[operator]


def distiller(
    student: Any,
    teacher: Any,
    spec: DistillationSpec,
    *,
    device: torch.device,
    epochs: int,
    close_mosaic: int,
    seed: int,
    half: bool = False,
) -> Distiller:
    """Join *student* and the loaded network *teacher* for training.

    The student's random stream is not touched: it trains on as it would alone.

    Raises:
        ModelError: the spec's losses cannot compare these two networks.

    """
    objective = Objective(
        spec, student=student, teacher=teacher, device=device, epochs=epochs, close_mosaic=close_mosaic, seed=seed
    )
    with seeded(seed):
        adapters = projectors(objective.losses, student, teacher)
    asked = Teacher(
        teacher,
        device=device,
        half=half,
        levels=objective.levels,
        head=objective.needs_head,
        middles=objective.crosses,
    )
    return Distiller(student, adapters.to(device), asked, objective)
