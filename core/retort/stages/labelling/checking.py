"""Training labels as the teacher sees them: boxes that seem to be missing, doubtful, or there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from retort.review import precision
from retort.review.boxes import MATCH_IOU, Box, Scored, iou
from retort.review.figures import ClassDoubts, ExistingLabels, LabelAgreement
from retort.review.pictures import Doubt, Suspect
from retort.spec import PseudoLabelsSpec
from retort.stages.context import Context
from retort.stages.labelling import detection, likeness, quality
from retort.stages.labelling.quality import parted

SAME_IOU = 0.85
"""Two labels of one class that overlap so much are one object, labelled twice."""


def check(context: Context, alive: likeness.Alive) -> tuple[tuple[Suspect, ...], ExistingLabels]:
    """Compare the training labels with what the teacher finds; return the images that should be looked at, and counts.

    The teacher's word is no proof: one that was trained on these very labels has learned their mistakes too.
    """
    wanted, names = context.spec.pseudo_labels, context.inputs.dataset.names
    assert wanted is not None
    folder = context.inputs.data_yaml.parent
    looks = likeness.look(sorted((folder / "images" / "train").iterdir()), alive)
    found = detection.detect(context, looks.images, looks.sizes, conf=wanted.lowest, kind="train")
    labels = [quality.truth(folder / "labels" / "train" / f"{image.stem}.txt", names) for image in looks.images]
    pairs = list(zip(map(tuple, found), labels, strict=True))
    suspects = [
        suspect(image.stem, boxes, there, wanted)
        for image, (boxes, there) in zip(looks.images, pairs, strict=True)
    ]  # fmt: skip
    doubted = tuple(one for one in suspects if one.missing or one.doubtful or one.duplicate)
    of_all = precision.compare([(parted(boxes, wanted)[0], there) for boxes, there in pairs], names)
    return doubted, _counted(suspects, labels, names, LabelAgreement(num_images=len(labels), **dict(of_all)))


def suspect(image: str, found: Sequence[Scored], labels: Sequence[Box], wanted: PseudoLabelsSpec) -> Suspect:
    """Return what seems to be wrong with the labels of one image."""
    kept, _ = parted(tuple(found), wanted)
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
