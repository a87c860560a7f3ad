"""The student in training, its projectors, and its teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retort.spec import DistillationSpec
from retort.training import models, teachers
from retort.training.config import Cycle, ExtraTeacher, TrainConfig
from retort.training.data.ignore_regions import KEY, ignoring
from retort.training.distillation import feature_taps
from retort.training.distillation.box_teacher import BoxTeacher
from retort.training.distillation.cached_teacher import CachedNetwork, CachedTeacher
from retort.training.distillation.objective import DistillationObjective, assign_by_teacher, criteria, projectors
from retort.training.distillation.self_teacher import SelfTeacher, named
from retort.training.distillation.teacher import MemoryPool, Teacher, TeacherOutput
from retort.training.distillation.teacher_resize import (
    ResizedTeacher,
    check_resizable,
    check_same_grid,
    paired_levels,
    ratio_of,
)
from retort.training.models import seeded
from retort.training.teachers.base import BoxNetwork
from retort.training.teachers.yolo import YoloBoxes
from retort.training.ultralytics_api import copy_attr

if TYPE_CHECKING:
    from torch import Tensor

    from retort.constants import Level
    from retort.training.distillation.feature_taps import Raw

AnyTeacher = Teacher | ResizedTeacher | BoxTeacher | CachedTeacher | SelfTeacher


@dataclass(frozen=True)
class TeacherCandidate:
    """A loaded network that is to teach."""

    network: Any
    weight: float = 1.0
    """Its say, relative to the others'."""
    ratio: Fraction = Fraction(1)
    """Side of its input over the student's."""
    own: bool = False
    """Whether it is the student itself, whose average teaches."""


@dataclass
class TeacherSlot:
    """A teacher in use, with its objective and its share."""

    teacher: AnyTeacher
    objective: DistillationObjective
    share: float
    """Of the distillation loss; the shares of all teachers add up to 1."""
    prefix: str
    """Of the keys of its projectors among those of all teachers; empty for the first teacher."""

    def adapters(self, adapters: nn.ModuleDict) -> nn.ModuleDict:
        """Pick this teacher's projectors from those of all teachers.

        They are under the keys that its objective knows.
        """
        number = len(self.prefix)
        own = {key[number:]: module for key, module in adapters.items() if _prefix(key) == self.prefix}
        return nn.ModuleDict(own)


def load_teachers(weights: Path | None, plan: TrainConfig, student: Any) -> list[TeacherCandidate]:
    """Load all teachers of *plan*, the first from *weights* unless it is cached.

    There are none where the average of *student*'s own weights is to teach.

    Raises:
        ModelError: a file cannot be loaded.
        DataError: what a cached teacher has said cannot be read.

    """
    teaching, side = plan.teaching, plan.training.imgsz
    if teaching.ema:
        return [TeacherCandidate(named(student, teaching.ema_classes), own=True)]
    if teaching.cache is not None:  # it was asked in its own size
        return [TeacherCandidate(CachedNetwork.read(teaching.cache), teaching.weight)]
    assert weights is not None, "a teacher other than the student itself has a file"
    first = ExtraTeacher(weights, teaching.weight, teaching.imgsz, teaching.as_boxes)
    return [
        TeacherCandidate(
            YoloBoxes(models.load(one.weights)) if one.as_boxes else teachers.load(one.weights),
            one.weight, ratio_of(one.imgsz, side),
        )
        for one in (first, *teaching.further)
    ]  # fmt: skip


def make_teacher_slot(
    candidate: TeacherCandidate,
    number: int,
    share: float,
    student: Any,
    make: Callable[[Any], DistillationObjective],
    **options: Any,
) -> tuple[TeacherSlot, nn.ModuleDict]:
    """Make a teacher slot of *candidate*, with its projectors.

    The projectors are keyed as those of teacher *number*, counted from 1. *options* go to ``Teacher``; *make* builds
    the objective between the student and a network.

    Raises:
        TeacherMismatch: the losses cannot compare the two networks, or not in these sizes.

    """
    objective = make(candidate.network)
    if isinstance(candidate.network, BoxNetwork):
        giving: BoxTeacher | CachedTeacher = (
            CachedTeacher(candidate.network, student)
            if isinstance(candidate.network, CachedNetwork)
            else BoxTeacher(candidate.network, student, device=options["device"], ratio=candidate.ratio)
        )
        giving.known = objective.classes.teacher
        return TeacherSlot(giving, objective, share, ""), nn.ModuleDict()
    check_resizable(candidate.ratio, student, candidate.network)
    check_same_grid(objective.losses, objective.labels, candidate.ratio)
    pairs = paired_levels(candidate.ratio)
    levels = {pairs[level] for level in objective.levels}
    asked_for: dict[str, Any] = {
        "levels": levels,
        "predictions": objective.needs_head,
        "intermediate": objective.crosses,
        "confidence_maps": objective.needs_maps,
    }
    teacher: Teacher | SelfTeacher = (
        SelfTeacher(student, half=options["half"], **asked_for)
        if candidate.own
        else Teacher(candidate.network, **asked_for, **options)
    )
    teacher.known = objective.classes.teacher if objective.classes.size else None
    prefix = "" if number == 1 else f"teacher{number}_"
    built = projectors(objective.losses, student, candidate.network, pairs)
    asked = (
        ResizedTeacher(teacher, candidate.ratio) if isinstance(teacher, Teacher) and candidate.ratio != 1 else teacher
    )
    return TeacherSlot(asked, objective, share, prefix), nn.ModuleDict(
        {f"{prefix}{key}": made for key, made in built.items()}
    )


def prepare_teachers(slots: Sequence[TeacherSlot], number: int, side: int) -> None:
    """Record the kernels of all teachers on a GPU.

    They are recorded for *number* square images of *side* pixels. They share one pool of memory, in the order in which
    `run_teachers` asks them.
    """
    pool = MemoryPool()
    for one in slots:
        one.teacher.prepare(number, side, side, pool)


def run_teachers(
    slots: Sequence[TeacherSlot], images: Tensor, batch: Mapping[str, Any] | None = None, *, brief: bool = True
) -> list[TeacherOutput]:
    """Return each teacher's output for *images* (N, 3, H, W) of *batch*.

    If it is *brief*, it has what the losses need only, and holds until the teachers are asked again.
    """
    return [
        one.teacher.said(batch or {}, images, brief=brief)
        if isinstance(one.teacher, CachedTeacher)
        else one.teacher(images, reuse_buffers=brief)
        for one in slots
    ]


def distillation_loss(
    slots: Sequence[TeacherSlot],
    outputs: Sequence[TeacherOutput],
    seen: tuple[Mapping[Level, Tensor], Mapping[str, Raw]],
    task: Tensor,
    adapters: nn.ModuleDict,
    *,
    objects: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted mean of all teachers' losses, and its items.

    *outputs* is what each said, *seen* are the student's features and raw branches; a balance remembers a step only
    where its batch has labelled *objects*. With several teachers,
    ``kd/<label>`` is the weighted mean of ``kd/<label>@1``, ``kd/<label>@2`` ..., what the term is under the first
    teacher, the second, and so on.
    """
    if len(slots) == 1:
        (only,) = slots
        return only.objective(*seen, outputs[0], task, adapters, objects=objects)
    totals: list[Tensor] = []
    items: list[dict[str, Tensor]] = []
    for one, output in zip(slots, outputs, strict=True):
        one.objective.epoch = slots[0].objective.epoch
        total, found = one.objective(*seen, output, task, one.adapters(adapters), objects=objects)
        totals.append(total * one.share)
        items.append(found)
    return torch.stack(totals).sum(), merge_items(items, [one.share for one in slots])


def zero_loss(slots: Sequence[TeacherSlot], device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the zero loss of a step without distillation.

    Its items have the names of a distillation's items.
    """
    found = [one.objective.zero_loss(device) for one in slots]
    (zero, items), *_ = found
    return zero, items if len(slots) == 1 else merge_items([one for _, one in found], [one.share for one in slots])


def merge_items(items: Sequence[dict[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """Return the weighted mean of each item over the teachers.

    Each teacher's own terms stand under their number. A term that one of them cannot teach is 0 there.
    """
    names = dict.fromkeys(name for one in items for name in one)
    mean = {
        name: torch.stack([s * one[name] for s, one in zip(shares, items, strict=True) if name in one]).sum()
        for name in names
    }
    apart = {
        f"{name}@{number}": value
        for number, one in enumerate(items, start=1)
        for name, value in one.items()
        if name.startswith(("kd/", "agreement/")) and name != "kd/weight"
    }
    return {**mean, **apart}


def _prefix(key: str) -> str:
    head, underscore, _ = key.partition("_")
    return f"{head}{underscore}" if head.startswith("teacher") else ""


class Distiller(nn.Module):
    """Module of student and teachers that Ultralytics' trainer trains.

    Upstream looks for the name ``student_model`` when it groups parameters and sets class weights. The slots
    are dropped by copies and pickles, so EMA and checkpoints hold the student and the projectors only.
    """

    def __init__(self, student: nn.Module, adapters: nn.ModuleDict, slots: Sequence[TeacherSlot]) -> None:
        super().__init__()
        copy_attr(self, student)  # names, nc, args, yaml, stride: what trainer and validator ask a model for
        self.student_model = student
        self.projectors = adapters
        self.slots = tuple(slots)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the teachers and their objectives behind."""
        return {**self.__dict__, "slots": ()}

    @property
    def teacher(self) -> AnyTeacher | None:
        """The first teacher; None in a copy."""
        return self.slots[0].teacher if self.slots else None

    @property
    def objective(self) -> DistillationObjective | None:
        """Objective of the first teacher; its epoch is all teachers' epoch."""
        return self.slots[0].objective if self.slots else None

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch, or predictions for images.

        A batch is a dict; the predictions are the student's.
        """
        if isinstance(x, dict):
            return self.loss(x, *args, **kwargs)
        return self.student_model(x, *args, **kwargs)

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss times batch size, and each item detached.

        The distillation loss is appended. Outside training, it is the task loss alone: nothing is learned from a
        teacher there. The images in ``unlabelled``, if any, reach the distillation terms only, while there are any to
        compute.
        """
        if not self.training or self.objective is None:
            found: tuple[Tensor, dict[str, Tensor]] = self.student_model.loss(batch, preds)  # type: ignore[operator]
            return found
        labelled, unlabelled = batch["img"], batch.get("unlabelled")
        active = self.objective.weight > 0
        images = torch.cat([labelled, unlabelled]) if active and unlabelled is not None else labelled
        # Teachers first: what they need on the way is free again before the student keeps all of its own.
        outputs = run_teachers(self.slots, images, batch) if active else []
        features, branches = feature_taps.forward(self.student_model, images, intermediate=self.objective.crosses)
        own = branches if images is labelled else feature_taps.first(branches, len(labelled))
        answers = self.objective.answers(outputs[0], len(labelled)) if active else {}
        student, own_criteria = self.student_model, criteria(self.student_model).values()
        spares = ignoring(own_criteria, batch) if KEY in batch else nullcontext()
        with assign_by_teacher(answers, student), spares:
            task, items = self.student_model.loss(batch, feature_taps.upstream_form(own))  # type: ignore[operator]
        if active:
            per_image = task.sum() / len(labelled)
            seen, objects = (features, branches), batch["cls"].numel() > 0
            total, parts = distillation_loss(self.slots, outputs, seen, per_image, self.projectors, objects=objects)
        else:
            total, parts = zero_loss(self.slots, images.device)
        return torch.cat([task, total[None] * len(labelled)]), {**items, **parts}

    def follow(self, average: Callable[[], Any]) -> None:
        """Follow the network that *average* returns, where the student teaches itself."""
        for one in self.slots:
            if isinstance(one.teacher, SelfTeacher):
                one.teacher.follow(average)

    @property
    def criterion(self) -> Any:
        """Criterion of the student, which upstream updates after each epoch."""
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


def make_distiller(
    student: Any,
    teacher: Any,
    spec: DistillationSpec,
    *,
    device: torch.device,
    epochs: int,
    close_mosaic: int,
    seed: int,
    half: bool = False,
    further: Sequence[TeacherCandidate] = (),
    cycle: Cycle | None = None,
) -> Distiller:
    """Join *student* and the loaded network *teacher*, and *further* teachers, for training.

    *teacher* is a ``TeacherCandidate`` where it has a weight or an input size of its own. The student's random stream
    is not touched: it trains on as it would alone.

    Raises:
        TeacherMismatch: the spec's losses cannot compare the student with one of these networks.

    """
    candidates = [teacher if isinstance(teacher, TeacherCandidate) else TeacherCandidate(teacher), *further]
    whole = sum(candidate.weight for candidate in candidates)

    def objective(network: Any) -> DistillationObjective:
        return DistillationObjective(
            spec, student=student, teacher=network, device=device, epochs=epochs, close_mosaic=close_mosaic, seed=seed,
            cycle=cycle,
        )  # fmt: skip

    slots, adapters = [], nn.ModuleDict()
    for number, candidate in enumerate(candidates, start=1):
        with seeded(seed + number - 1):
            made, built = make_teacher_slot(
                candidate, number, candidate.weight / whole, student, objective, device=device, half=half
            )
        slots.append(made)
        adapters.update(dict(built.items()))
    return Distiller(student, adapters.to(device), slots)
