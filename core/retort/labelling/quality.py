"""Quality of pseudo-labels: counts, agreement with existing labels, samples to check."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from retort.data.copies import Alive
from retort.data.labels import LabelBox, read_labels
from retort.labelling import duplicates, predict
from retort.pipeline.context import Context
from retort.review import metrics
from retort.review.figures import ClassDoubts, ClassLabels, ExistingLabels, LabelAgreement, LabelFigures, LeftOut
from retort.review.models import MATCH_IOU, Box, Doubt, Picture, Scored, Suspect, iou
from retort.spec import PseudoLabelsSpec

BINS = 20
"""Of a histogram of scores, from 0 to 1."""


def figures(
    pictures: Sequence[Picture], wanted: PseudoLabelsSpec, names: Sequence[str], num_unreadable: int
) -> LabelFigures:
    """Return the counts and histograms of the labels on *pictures*."""
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
    """Compare labels with the existing labels in *folder*.

    They are compared for the same images; None where there are none. Images that were left out because of how they look
    are not compared; those on which nothing was found are.
    """
    known = {path.stem: path for path in folder.glob("*.txt")}
    compared = [picture for picture in pictures if picture.image in known and picture.left_out in {None, "empty"}]
    if not compared:
        return None
    pairs = [(picture.kept, truth(known[picture.image], names)) for picture in compared]
    return LabelAgreement(num_images=len(compared), **dict(metrics.compare(pairs, names)))


def truth(label: Path, names: Sequence[str]) -> tuple[Box, ...]:
    """Read the boxes of a label file that intake has checked."""
    if not label.is_file():
        return ()
    resolved = label.resolve()
    return tuple(
        box
        for row in read_labels(resolved, len(names), resolved.parent).boxes
        if (box := as_box(row, names)) is not None
    )


def labelled_counts(context: Context) -> list[Counter[str]]:
    """Return the boxes by class of each labelled training image."""
    folder, names = context.inputs.data_yaml.parent, context.inputs.dataset.names
    images = sorted((folder / "images/train").iterdir())
    labels = (truth(folder / f"labels/train/{image.stem}.txt", names) for image in images if image.suffix != ".cache")
    return [Counter(box.name for box in boxes) for boxes in labels]


def as_box(row: LabelBox, names: Sequence[str]) -> Box | None:
    """Return a label line as a box inside its image.

    None for one that is outside, or smaller than a dot.
    """
    left, top = row.centre_x - row.width / 2, row.centre_y - row.height / 2
    corners = [round(min(1.0, max(0.0, value)), 6) for value in (left, top, left + row.width, top + row.height)]
    x1, y1, x2, y2 = corners
    return Box(name=names[row.class_id], x1=x1, y1=y1, x2=x2, y2=y2) if x1 < x2 and y1 < y2 else None


def split_by_threshold(
    boxes: tuple[Scored, ...], wanted: PseudoLabelsSpec
) -> tuple[tuple[Scored, ...], tuple[Scored, ...]]:
    """Separate labels from doubtful detections."""
    kept = tuple(box for box in boxes if box.score >= wanted.threshold(box.name))
    if wanted.ignore_from is None:
        return kept, ()
    return kept, tuple(box for box in boxes if wanted.ignore_from <= box.score < wanted.threshold(box.name))


def sentence(found: LabelFigures) -> str:
    """Describe the counts of *found* in one sentence."""
    left_out = sum(found.left_out.model_dump().values())
    return (
        f"the teacher has labelled {found.num_used} of {found.num_images} images: {found.num_boxes} boxes are "
        f"labels, {found.num_doubtful} are doubtful, {left_out} images are left out"
    )


def _histogram(scores: Sequence[float]) -> tuple[int, ...]:
    counted = Counter(min(BINS - 1, int(score * BINS)) for score in scores)
    return tuple(counted[index] for index in range(BINS))


SAME_IOU = 0.85
"""Two labels of one class that overlap so much are one object, labelled twice."""


def check(context: Context, alive: Alive) -> tuple[tuple[Suspect, ...], ExistingLabels]:
    """Compare the training labels with the teacher's detections.

    Returned are the images that should be looked at, and counts. The teacher's word is no proof: one that was trained
    on these very labels has learned their mistakes too.
    """
    wanted, names = context.spec.pseudo_labels, context.inputs.dataset.names
    assert wanted is not None
    folder = context.inputs.data_yaml.parent
    looks = duplicates.hash_images(sorted((folder / "images" / "train").iterdir()), alive)
    found = predict.detect(context, looks.images, looks.sizes, conf=wanted.lowest, kind="train")
    labels = [truth(folder / "labels" / "train" / f"{image.stem}.txt", names) for image in looks.images]
    pairs = list(zip(map(tuple, found), labels, strict=True))
    suspects = [
        suspect(image.stem, boxes, there, wanted)
        for image, (boxes, there) in zip(looks.images, pairs, strict=True)
    ]  # fmt: skip
    doubted = tuple(one for one in suspects if one.missing or one.doubtful or one.duplicate)
    of_all = metrics.compare([(split_by_threshold(boxes, wanted)[0], there) for boxes, there in pairs], names)
    return doubted, _counted(suspects, labels, names, LabelAgreement(num_images=len(labels), **dict(of_all)))


def suspect(image: str, found: Sequence[Scored], labels: Sequence[Box], wanted: PseudoLabelsSpec) -> Suspect:
    """Return the suspected errors in the labels of one image."""
    kept, _ = split_by_threshold(tuple(found), wanted)
    return Suspect(
        image=image,
        missing=tuple(box for box in kept if not any(iou(box, label) >= MATCH_IOU for label in labels)),
        doubtful=tuple(_doubts(found, kept, labels)),
        duplicate=tuple(
            label
            for index, label in enumerate(labels)
            if any(label.name == other.name and iou(label, other) >= SAME_IOU for other in labels[:index])
        ),
    )


def _doubts(found: Sequence[Scored], kept: Sequence[Scored], labels: Sequence[Box]) -> Iterator[Doubt]:
    """Yield the labels where the teacher sees nothing of their class, with what it is certain to see instead."""
    for label in labels:
        there = [box for box in found if iou(box, label) >= MATCH_IOU]
        if not any(box.name == label.name for box in there):
            instead = next((box.name for box in kept if box in there), None)
            yield Doubt.model_validate({**label.model_dump(), "instead": instead})


def _counted(
    suspects: Sequence[Suspect], labels: Sequence[Sequence[Box]], names: Sequence[str], agreement: LabelAgreement
) -> ExistingLabels:
    kinds = ("missing", "doubtful", "duplicate")
    counted = {kind: Counter[str](box.name for one in suspects for box in getattr(one, kind)) for kind in kinds}
    there = Counter[str](box.name for boxes in labels for box in boxes)
    return ExistingLabels(
        num_images=len(labels),
        num_suspect=sum(bool(one.missing or one.doubtful or one.duplicate) for one in suspects),
        num_boxes=there.total(),
        num_missing=counted["missing"].total(),
        num_doubtful=counted["doubtful"].total(),
        num_duplicate=counted["duplicate"].total(),
        per_class={
            name: ClassDoubts(
                num_boxes=there[name],
                num_missing=counted["missing"][name],
                num_doubtful=counted["doubtful"][name],
                num_duplicate=counted["duplicate"][name],
            )
            for name in names
        },
        agreement=agreement,
    )


def select_for_review(pictures: Sequence[Picture], wanted: PseudoLabelsSpec, seed: int) -> tuple[Picture, ...]:
    """Return the pictures to look at, by name.

    All are those that are trained on, and those on which nothing was found. A sample is of the former only, and
    systematic: every n-th of them, from a random start, in the order of their rarest class and their lowest score. So
    each has the same chance, and each class and score the share in the sample that it has in the whole.
    """
    if wanted.review == "all":
        return tuple(sorted((one for one in pictures if one.left_out in {None, "empty"}), key=lambda one: one.image))
    used = [picture for picture in pictures if picture.left_out is None]
    number = min(wanted.sample, len(used))
    if number == 0:
        return ()
    common = Counter(box.name for picture in used for box in picture.kept)
    ordered = sorted(used, key=lambda one: _place(one, common))
    step = len(ordered) / number
    start = random.Random(seed).random()  # noqa: S311 - the same sample for the same seed
    drawn = [ordered[int((start + index) * step)] for index in range(number)]
    return tuple(sorted(drawn, key=lambda one: one.image))


def _place(picture: Picture, common: Counter[str]) -> tuple[int, str, float, str]:
    """Order by the rarest class on the picture, then by the least certain box, then by name."""
    rarest = min((box.name for box in picture.kept), key=lambda name: (common[name], name))
    return common[rarest], rarest, min(box.score for box in picture.kept), picture.image
