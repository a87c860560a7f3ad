"""How good a teacher's labels seem to be: counts, scores, and how they agree with labels that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from retort.intake import labels
from retort.review import precision
from retort.review.boxes import Box, Scored
from retort.review.figures import ClassLabels, LabelAgreement, LabelFigures, LeftOut
from retort.review.pictures import Picture
from retort.spec import PseudoLabelsSpec

BINS = 20
"""Of a histogram of scores, from 0 to 1."""


def figures(
    pictures: Sequence[Picture], wanted: PseudoLabelsSpec, names: Sequence[str], num_unreadable: int
) -> LabelFigures:
    """Return the counts and histograms of what was found on *pictures*."""
    used = [picture for picture in pictures if picture.left_out is None]
    reasons = Counter[str | None](picture.left_out for picture in pictures)
    images = Counter(name for picture in used for name in {box.name for box in picture.kept})
    kept, doubtful = Counter[str](), Counter[str]()
    scores: dict[str, list[float]] = {name: [] for name in names}
    for picture in used:
        kept.update(box.name for box in picture.kept)
        doubtful.update(box.name for box in picture.doubtful)
        for box in (*picture.kept, *picture.doubtful):
            scores[box.name].append(box.score)
    return LabelFigures(
        num_images=len(pictures) + num_unreadable,
        num_used=len(used),
        left_out=LeftOut(
            validation=reasons["validation"],
            training=reasons["training"],
            duplicate=reasons["duplicate"],
            empty=reasons["empty"],
            unreadable=num_unreadable,
        ),
        num_boxes=kept.total(),
        num_doubtful=doubtful.total(),
        confidence={name: wanted.threshold(name) for name in names},
        ignore_from=wanted.ignore_from,
        per_class={
            name: ClassLabels(
                num_images=images[name],
                num_boxes=kept[name],
                num_doubtful=doubtful[name],
                histogram=_histogram(scores[name]),
            )
            for name in names
        },
        histogram=_histogram([score for found in scores.values() for score in found]),
    )


def agreement(pictures: Sequence[Picture], folder: Path, names: Sequence[str]) -> LabelAgreement | None:
    """Compare labels with those that lie in *folder* for the same images; None where there are none.

    Images that were left out because of how they look are not compared; those on which nothing was found are.
    """
    known = {path.stem: path for path in folder.glob("*.txt")}
    compared = [picture for picture in pictures if picture.image in known and picture.left_out in {None, "empty"}]
    if not compared:
        return None
    pairs = [(picture.kept, truth(known[picture.image], names)) for picture in compared]
    return LabelAgreement(num_images=len(compared), **dict(precision.compare(pairs, names)))


def truth(label: Path, names: Sequence[str]) -> tuple[Box, ...]:
    """Read the boxes of a label file that intake has checked."""
    if not label.is_file():
        return ()
    resolved = label.resolve()
    return tuple(
        box
        for row in labels.read(resolved, len(names), resolved.parent).boxes
        if (box := as_box(row, names)) is not None
    )


def as_box(row: labels.Box, names: Sequence[str]) -> Box | None:
    """Return a line of a label file as a box inside its image; None for one that is outside, or smaller than a dot."""
    left, top = row.centre_x - row.width / 2, row.centre_y - row.height / 2
    corners = [round(min(1.0, max(0.0, value)), 6) for value in (left, top, left + row.width, top + row.height)]
    x1, y1, x2, y2 = corners
    return Box(name=names[row.class_id], x1=x1, y1=y1, x2=x2, y2=y2) if x1 < x2 and y1 < y2 else None


def parted(boxes: tuple[Scored, ...], wanted: PseudoLabelsSpec) -> tuple[tuple[Scored, ...], tuple[Scored, ...]]:
    """Part labels from what is doubtful."""
    kept = tuple(box for box in boxes if box.score >= wanted.threshold(box.name))
    if wanted.ignore_from is None:
        return kept, ()
    return kept, tuple(box for box in boxes if wanted.ignore_from <= box.score < wanted.threshold(box.name))


def sentence(found: LabelFigures) -> str:
    """Say in words what was found."""
    left_out = sum(found.left_out.model_dump().values())
    return (
        f"the teacher has labelled {found.num_used} of {found.num_images} images: {found.num_boxes} boxes are "
        f"labels, {found.num_doubtful} are doubtful, {left_out} images are left out"
    )


def _histogram(scores: Sequence[float]) -> tuple[int, ...]:
    counted = Counter(min(BINS - 1, int(score * BINS)) for score in scores)
    return tuple(counted[index] for index in range(BINS))
