"""Choose the score from which a box is a label, class by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from retort.review.models import Scored
from retort.spec import PseudoLabelsSpec
from retort.spec.job import LEAST_SCORE

RELIABLE = 0.6
"""Part of the expected boxes of a class that become labels, as in LabelMatch and Efficient Teacher."""
MOST_SCORE = 0.9
"""No class needs a higher score than this one."""


def with_class_shares(
    wanted: PseudoLabelsSpec, found: Sequence[Sequence[Scored]], labelled: Sequence[Counter[str]]
) -> PseudoLabelsSpec:
    """Return *wanted* with a score for each class that keeps its share of boxes.

    With n boxes of a class on L *labelled* images, U other images let expect n U / L of them; the score is that of the
    box of this class that is the RELIABLE n U / L-th by its score, within bounds (LabelMatch, arXiv 2206.06608;
    Efficient Teacher, arXiv 2302.07577). It takes no validation images, and assumes that both kinds of images
    show the classes alike. A class that no labelled image shows, and one that is named already, keeps its score.

    Args:
        wanted: what the spec says.
        found: the teacher's boxes on each of the other images that are trained on.
        labelled: boxes by class of each labelled image.

    """
    counts = sum(labelled, Counter[str]())
    scores: dict[str, list[float]] = {}
    for box in (box for boxes in found for box in boxes):
        scores.setdefault(box.name, []).append(box.score)
    chosen = {
        name: _score(scores.get(name, []), RELIABLE * number * len(found) / len(labelled))
        for name, number in counts.items()
        if number and name not in wanted.per_class
    }
    per_class: Mapping[str, float] = {**chosen, **wanted.per_class}
    return wanted.model_copy(update={"per_class": per_class})


def _score(scores: Sequence[float], number: float) -> float:
    """Return the score of the box that is the *number*-th, within bounds."""
    last = max(1, round(number)) - 1
    ordered = sorted(scores, reverse=True)
    return min(MOST_SCORE, max(LEAST_SCORE, ordered[last] if last < len(ordered) else LEAST_SCORE))
