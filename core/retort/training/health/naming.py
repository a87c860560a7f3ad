"""Compare the teacher's class names with the labels': agreement, and evidence of a permutation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from retort.training.distillation.boxes import listed
from retort.training.distillation.distiller import run_teachers
from retort.training.distillation.feature_taps import Decoder
from retort.training.health.metrics import FOREGROUND, OVERLAP, Probe, first_teacher, iou

if TYPE_CHECKING:
    from torch import Tensor

    from retort.losses import Predictions
    from retort.training.distillation.distiller import Distiller

NEXT_TO_NONE = 0.1
"""Share of the objects found: a teacher that is sure of what it sees, and names fewer right, has other names."""
SURE, MOST_OF = 1.645, 0.6
"""Standard errors of a class that speaks for a permutation by itself (one side, 5 %), and share of classes that do."""


@dataclass(frozen=True, slots=True)
class Naming:
    """How a teacher names labelled objects that it finds."""

    objects: int
    agreement: float
    """Share that it names as the labels do."""
    permuted: float
    """Standard errors by which a permutation of its names fits the labels better than its own; 0 where none does."""


def naming(model: Distiller, sample: Iterable[Probe]) -> Naming | None:
    """Compare names on *sample*; None where the teacher finds nothing labelled."""
    teacher, spec = first_teacher(model)
    if spec.classes.size == 0:
        return None
    decode = Decoder(teacher.model.stride)
    counts = torch.zeros(spec.classes.size, spec.classes.size)
    for chunk in sample:
        with torch.no_grad(), torch.autocast(chunk.images.device.type, enabled=False):
            (output,) = run_teachers(model.slots[:1], chunk.images, chunk.batch, brief=False)
            if output.boxes is not None:
                found = listed(output.boxes, len(chunk.images), spec.classes.teacher)
            else:
                found = decode(output.branches["one2many"], spec.classes.teacher)
        known = spec.classes.student
        numbers = torch.arange(spec.classes.size, device=chunk.images.device) if known is None else known
        counts += confusion(found, numbers, chunk)
    return judge(counts)


def confusion(teacher: Predictions, numbers: Tensor, probe: Probe) -> Tensor:
    """Count objects that *teacher* finds by labelled and named class, (K, K).

    Args:
        teacher: the teacher on the common classes.
        numbers: the data's number of each of them, (K,).
        probe: with the labels.

    """
    scores, classes = teacher.scores.float().sigmoid().max(-1)  # N A
    counts = torch.zeros(len(numbers), len(numbers))
    for box, label, owner in zip(probe.corners(), probe.batch["cls"], probe.batch["batch_idx"].long(), strict=True):
        close = iou(teacher.boxes[owner].float(), box.expand(teacher.boxes.shape[1], 4)) >= OVERLAP  # A
        confidence = torch.where(close, scores[owner], 0.0)
        place = (label == numbers).nonzero().flatten()
        if len(place) and confidence.max() >= FOREGROUND:
            counts[int(place[0]), int(classes[owner][confidence.argmax()])] += 1
    return counts


def judge(counts: Tensor) -> Naming | None:
    """Judge *counts* (K, K), labelled class by named class; None where there are none.

    A sound teacher that is weak confuses classes, or calls several of them by one name: no permutation of its names
    does better. Where names were permuted, the classes of a chain are each named as the next one.
    """
    number = float(counts.sum())
    if number == 0:
        return None
    right = float(counts.diagonal().sum())
    permuted = max(map(evidence, chains(counts)), default=0.0)
    if right < NEXT_TO_NONE * number:  # as where only one of two exchanged classes is there to be found
        permuted = max(permuted, _errors(number - right, right))
    return Naming(int(number), right / number, permuted)


def chains(counts: Tensor) -> list[list[tuple[float, float]]]:
    """Return the chains of the permutation that fits *counts* best, each class alike.

    A chain goes from class to class by the names that the permutation gives, round or up to a class that was not found.
    Of each class: how many of its objects are named as the next class, and how many by its own name.
    """
    from scipy.optimize import linear_sum_assignment

    rows = counts.sum(1).nonzero().flatten()
    shares = counts[rows] / counts[rows].sum(1, keepdim=True)
    # Of permutations that fit alike, the one that moves fewest classes.
    _, columns = linear_sum_assignment((shares + 1e-6 * torch.eye(len(counts))[rows]).numpy(), maximize=True)
    following = {place: after for place, after in zip(rows.tolist(), columns.tolist(), strict=True) if place != after}
    found = []
    for start in [*(following.keys() - set(following.values())), *following]:  # open chains before round ones
        place, chain = start, []
        while place in following:
            after = following.pop(place)
            chain.append((float(counts[place, after]), float(counts[place, place])))
            place = after
        found.append(chain)
    return [chain for chain in found if chain]


def evidence(chain: Sequence[tuple[float, float]]) -> float:
    """Return the standard errors by which a *chain* of names is permuted.

    Objects that only the permutation names right are counted against those that only the true names do (McNemar's
    test). One class that is taken for another is a confusion: two at least must each speak for the permutation, and
    most of the chain.
    """
    alone = [_errors(*one) for one in chain]
    sure, speaking = (sum(1 for errors in alone if errors > least) for least in (SURE, 0))
    if sure < 2 or speaking < MOST_OF * len(chain):
        return 0.0
    return max(0.0, _errors(sum(gained for gained, _ in chain), sum(lost for _, lost in chain)))


def _errors(gained: float, lost: float) -> float:
    return (gained - lost) / math.sqrt(max(gained + lost, 1.0))
