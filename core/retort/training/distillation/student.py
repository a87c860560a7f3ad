"""The student in training: the network and its projectors, with the teacher at hand but not inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retort.spec import DistillationSpec
from retort.training.distillation import assignment, taps
from retort.training.distillation.objective import Objective
from retort.training.distillation.resolution import Resized
from retort.training.distillation.teacher import Teacher
from retort.training.distillation.tutor import Candidate, Tutor, ask, learn, silent, tutor
from retort.training.ignored import spared
from retort.training.networks import seeded
from retort.training.upstream import copy_attr

if TYPE_CHECKING:
    from torch import Tensor


class Distiller(nn.Module):
    """What upstream's trainer trains in place of the student.

    Upstream looks for the name ``student_model`` when it groups parameters and sets class weights. The tutors
    are dropped by copies and pickles, so EMA and checkpoints hold the student and the projectors only.
    """

    def __init__(self, student: nn.Module, adapters: nn.ModuleDict, tutors: Sequence[Tutor]) -> None:
        super().__init__()
        copy_attr(self, student)  # names, nc, args, yaml, stride: what trainer and validator ask a model for
        self.student_model = student
        self.projectors = adapters
        self.tutors = tuple(tutors)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the teachers and their objectives behind."""
        return {**self.__dict__, "tutors": ()}

    @property
    def teacher(self) -> Teacher | Resized | None:
        """The first teacher; None in a copy."""
        return self.tutors[0].teacher if self.tutors else None

    @property
    def objective(self) -> Objective | None:
        """The first teacher's; its epoch is all teachers'."""
        return self.tutors[0].objective if self.tutors else None

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch (dict), or the student's predictions for images."""
        if isinstance(x, dict):
            return self.loss(x, *args, **kwargs)
        return self.student_model(x, *args, **kwargs)

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss times batch size, the distillation loss appended, and each item detached.

        Outside training the task loss alone: nothing is learned from a teacher there. The images in ``unlabelled``, if
        any, reach the distillation terms only, while there are any to compute.
        """
        if not self.training or self.objective is None:
            found: tuple[Tensor, dict[str, Tensor]] = self.student_model.loss(batch, preds)  # type: ignore[operator]
            return found
        labelled, unlabelled = batch["img"], batch.get("unlabelled")
        active = self.objective.weight > 0
        images = torch.cat([labelled, unlabelled]) if active and unlabelled is not None else labelled
        # Teachers first: what they need on the way is free again before the student keeps all of its own.
        lessons = ask(self.tutors, images) if active else []
        features, branches = taps.forward(self.student_model, images, middles=self.objective.crosses)
        own = branches if images is labelled else taps.first(branches, len(labelled))
        answers = self.objective.answers(lessons[0], len(labelled)) if active else {}
        criteria = assignment.criteria(self.student_model).values()
        with assignment.by(answers, self.student_model), spared(criteria, batch):
            task, items = self.student_model.loss(batch, taps.upstream_form(own))  # type: ignore[operator]
        if active:
            per_image = task.sum() / len(labelled)
            total, parts = learn(self.tutors, lessons, (features, branches), per_image, self.projectors)
        else:
            total, parts = silent(self.tutors, images.device)
        return torch.cat([task, total[None] * len(labelled)]), {**items, **parts}

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
    further: Sequence[Candidate] = (),
) -> Distiller:
    """Join *student* and the loaded network *teacher*, and *further* teachers, for training.

    *teacher* is a ``Candidate`` where it has a weight or an input size of its own. The student's random stream is not
    touched: it trains on as it would alone.

    Raises:
        TeacherMismatch: the spec's losses cannot compare the student with one of these networks.

    """
    candidates = [teacher if isinstance(teacher, Candidate) else Candidate(teacher), *further]
    whole = sum(candidate.weight for candidate in candidates)

    def objective(network: Any) -> Objective:
        return Objective(
            spec, student=student, teacher=network, device=device, epochs=epochs, close_mosaic=close_mosaic, seed=seed
        )

    tutors, adapters = [], nn.ModuleDict()
    for number, candidate in enumerate(candidates, start=1):
        with seeded(seed + number - 1):
            made, built = tutor(
                candidate, number, candidate.weight / whole, student, objective, device=device, half=half
            )
        tutors.append(made)
        adapters.update(dict(built.items()))
    return Distiller(student, adapters.to(device), tutors)
