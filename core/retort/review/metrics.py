"""How good labels are: precision and recall with their intervals, by class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from retort.review.figures import LabelComparison, PrecisionRecall, ReviewFigures, Share
from retort.review.models import Box, ImageDecision, ImageVerdict, Picture, matched

_Z = 1.959963984540054
"""Normal deviate of a two-sided interval of 95 %."""


def wilson(right: int, total: int) -> Share:
    """Return the share of *right* among *total* with its Wilson interval.

    The interval is of 95 % (Wilson, JASA 22, 1927).
    """
    if total == 0:
        return Share(right=0, total=0, value=None, low=None, high=None)
    share, spread = right / total, _Z**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2)) / (1 + spread)
    low = 0.0 if right == 0 else max(0.0, centre - half)
    high = 1.0 if right == total else min(1.0, centre + half)
    return Share(right=right, total=total, value=share, low=low, high=high)


def compare(pairs: Iterable[tuple[Sequence[Box], Sequence[Box]]], classes: Sequence[str]) -> LabelComparison:
    """Return precision and recall of found boxes against the ground truth.

    The figures are in total and by class.
    """
    found, there, right = Counter[str](), Counter[str](), Counter[str]()
    for boxes, truth in pairs:
        found.update(box.name for box in boxes)
        there.update(box.name for box in truth)
        right.update(box.name for box, partner in matched(boxes, truth) if partner is not None)
    by_class = {name: _both(right[name], found[name], there[name]) for name in classes if found[name] or there[name]}
    of_all = _both(right.total(), found.total(), there.total())
    return LabelComparison(precision=of_all.precision, recall=of_all.recall, per_class=by_class)


def review_figures(
    pictures: Sequence[Picture],
    decisions: Mapping[str, ImageDecision],
    classes: Sequence[str],
    *,
    mode: Literal["sample", "all"] = "all",
) -> ReviewFigures:
    """Return figures of the teacher's labels from the reviewers' *decisions*.

    Only pictures that were looked at count. All boxes of a picture that was accepted are right, all of one that was
    rejected are wrong; on one that was edited those are right that the reviewer's boxes of the same class cover.
    """
    decided = [(picture, decisions[picture.image]) for picture in pictures if picture.image in decisions]
    seen = [(picture, decision) for picture, decision in decided if decision.seen]
    counted = Counter(verdict.decision for _, verdict in seen)
    known = [(picture.kept, _truth(picture, verdict)) for picture, verdict in seen if verdict.decision != "reject"]
    refused = [(picture.kept, ()) for picture, verdict in seen if verdict.decision == "reject"]
    of_all = compare([*known, *refused], classes)
    return ReviewFigures(
        mode=mode,
        num_images=len(seen),
        num_unseen=len(decided) - len(seen),
        num_accepted=counted["accept"],
        num_rejected=counted["reject"],
        num_edited=counted["edit"],
        precision=of_all.precision,
        recall=compare(known, classes).recall,
        per_class={name: both.precision for name, both in of_all.per_class.items()},
    )


def _truth(picture: Picture, verdict: ImageVerdict) -> Sequence[Box]:
    return picture.kept if verdict.boxes is None else verdict.boxes


def _both(right: int, found: int, there: int) -> PrecisionRecall:
    return PrecisionRecall(precision=wilson(right, found), recall=wilson(right, there))
