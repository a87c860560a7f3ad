"""The teachers of one student: each with its objective and its share, and what they say together about a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retort.training import networks
from retort.training.distillation.objective import Objective, projectors
from retort.training.distillation.resolution import Resized, check_same_grid, paired_levels, ratio_of
from retort.training.distillation.teacher import Lesson, Teacher
from retort.training.plan import FurtherTeacher, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from retort.names import Level
    from retort.training.distillation.taps import Raw


@dataclass(frozen=True)
class Candidate:
    """A loaded network that is to teach."""

    network: Any
    weight: float = 1.0
    """Its say, relative to the others'."""
    ratio: Fraction = Fraction(1)
    """Side of its input over the student's."""


@dataclass
class Tutor:
    """One teacher at work."""

    teacher: Teacher | Resized
    objective: Objective
    share: float
    """Of the distillation loss; the shares of all teachers add up to 1."""
    prefix: str
    """Of the keys of its projectors among those of all teachers; empty for the first teacher."""

    def adapters(self, together: nn.ModuleDict) -> nn.ModuleDict:
        """Pick this teacher's projectors from those of all, under the keys that its objective knows."""
        number = len(self.prefix)
        own = {key[number:]: module for key, module in together.items() if _prefix(key) == self.prefix}
        return nn.ModuleDict(own)


def candidates(weights: Path, plan: Plan) -> list[Candidate]:
    """Load the teachers of *plan*: the first from *weights*, and the further ones.

    Raises:
        ModelError: a file cannot be loaded.

    """
    teaching, side = plan.teaching, plan.training.imgsz
    first = FurtherTeacher(weights, teaching.weight, teaching.imgsz)
    return [
        Candidate(networks.load(one.weights), one.weight, ratio_of(one.imgsz, side))
        for one in (first, *teaching.further)
    ]


def tutor(
    candidate: Candidate, number: int, share: float, student: Any, make: Callable[[Any], Objective], **options: Any
) -> tuple[Tutor, nn.ModuleDict]:
    """Put a candidate to work; return it with its projectors, keyed as those of teacher *number*, counted from 1.

    *options* go to ``Teacher``; *make* builds the objective between the student and a network.

    Raises:
        TeacherMismatch: the losses cannot compare the two networks, or not in these sizes.

    """
    objective = make(candidate.network)
    check_same_grid(objective.losses, objective.labels, candidate.ratio)
    pairs = paired_levels(candidate.ratio)
    levels = {pairs[level] for level in objective.levels}
    teacher = Teacher(
        candidate.network,
        levels=levels,
        head=objective.needs_head,
        middles=objective.crosses,
        maps=objective.needs_maps,
        **options,
    )
    teacher.known = objective.classes.teacher if objective.classes.size else None
    prefix = "" if number == 1 else f"teacher{number}_"
    built = projectors(objective.losses, student, candidate.network, pairs)
    asked = teacher if candidate.ratio == 1 else Resized(teacher, candidate.ratio)
    return Tutor(asked, objective, share, prefix), nn.ModuleDict(
        {f"{prefix}{key}": made for key, made in built.items()}
    )


def ask(tutors: Sequence[Tutor], images: Tensor) -> list[Lesson]:
    """Return what each teacher says about *images* (N, 3, H, W), until they are asked again."""
    return [one.teacher(images, fleeting=True) for one in tutors]


def learn(
    tutors: Sequence[Tutor],
    lessons: Sequence[Lesson],
    seen: tuple[Mapping[Level, Tensor], Mapping[str, Raw]],
    task: Tensor,
    together: nn.ModuleDict,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted mean of all teachers' losses, and its items.

    *lessons* is what each said, *seen* are the student's features and raw branches. With several teachers,
    ``kd/<label>`` is the weighted mean of ``kd/<label>@1``, ``kd/<label>@2`` ..., what the term is under the first
    teacher, the second, and so on.
    """
    if len(tutors) == 1:
        (only,) = tutors
        return only.objective(*seen, lessons[0], task, together)
    totals: list[Tensor] = []
    items: list[dict[str, Tensor]] = []
    for one, lesson in zip(tutors, lessons, strict=True):
        one.objective.epoch = tutors[0].objective.epoch
        total, found = one.objective(*seen, lesson, task, one.adapters(together))
        totals.append(total * one.share)
        items.append(found)
    return torch.stack(totals).sum(), joined(items, [one.share for one in tutors])


def silent(tutors: Sequence[Tutor], device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what a step without distillation adds: nothing, under the same names."""
    zero, items = tutors[0].objective.silent(device)
    return zero, items if len(tutors) == 1 else joined([items] * len(tutors), [one.share for one in tutors])


def joined(items: Sequence[dict[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """Return the weighted mean of each item, and each teacher's own terms under their number."""
    mean = {name: torch.stack([s * one[name] for s, one in zip(shares, items, strict=True)]).sum() for name in items[0]}
    apart = {
        f"{name}@{number}": value
        for number, one in enumerate(items, start=1)
        for name, value in one.items()
        if name.startswith("kd/") and name != "kd/weight"
    }
    return {**mean, **apart}


def _prefix(key: str) -> str:
    head, underscore, _ = key.partition("_")
    return f"{head}{underscore}" if head.startswith("teacher") else ""
