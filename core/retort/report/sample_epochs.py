"""Publish what the student saw on sample images after some of its epochs."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from retort import images as reader
from retort.constants import Role
from retort.pipeline.context import Context
from retort.report.mistakes import SCORE_FROM
from retort.report.samples import NUM_IMAGES, DrawnBox, detect, judged, spread, truth
from retort.review.models import MATCH_IOU
from retort.spec.mistakes import OutcomeCounts
from retort.spec.samples import SAMPLES, EpochSamples, SampleBox, SampledEpoch, SampledImage

MOST_EPOCHS = 10
MOST_BOXES = 60
"""Boxes that are kept of an image."""
_SIDE = 400
"""Longer side of the copies."""
_EPOCH = re.compile(r"student-epoch-(\d+)\.pt")


def publish_epochs(context: Context) -> None:
    """Detect with published checkpoints on the images that the report shows first."""
    checkpoints = chosen(context.artifact("checkpoints"))
    pairs = spread(context.inputs.data_yaml.parent, NUM_IMAGES)
    if not checkpoints or not pairs:
        return
    images, expected = [image for image, _ in pairs], [truth(*pair) for pair in pairs]
    names = context.inputs.dataset.names
    sizes = [reader.picture(image).size for image in images]
    epochs = []
    for epoch, path in checkpoints:
        marks = [
            judged(found, labels)
            for found, labels in zip(detect(context, Role.STUDENT, path, images), expected, strict=True)
        ]
        epochs.append(sampled(epoch, marks, sizes, names))
    context.publish_document(
        SAMPLES,
        EpochSamples(score_from=SCORE_FROM, iou=MATCH_IOU, images=tuple(map(_image, images)), epochs=tuple(epochs)),
    )


def chosen(folder: Path) -> list[tuple[int, Path]]:
    """Return checkpoints by epoch, at most ten at even distances, the last among them."""
    known = sorted((int(found[1]), path) for path in folder.glob("*.pt") if (found := _EPOCH.fullmatch(path.name)))
    number = min(len(known), MOST_EPOCHS)
    return [
        known[round(at * (len(known) - 1) / max(1, number - 1))] if number > 1 else known[-1] for at in range(number)
    ]


def sampled(
    epoch: int, marks: Sequence[Sequence[DrawnBox]], sizes: Sequence[tuple[int, int]], names: Sequence[str]
) -> SampledEpoch:
    """Return what was seen after one epoch."""
    counted = Counter(mark.outcome for image in marks for mark in image)
    return SampledEpoch(
        epoch=epoch,
        total=OutcomeCounts(found=counted["found"], wrong=counted["wrong"], missed=counted["missed"]),
        boxes=tuple(
            tuple(_box(mark, size, names) for mark in sorted(image, key=_certain)[:MOST_BOXES])
            for image, size in zip(marks, sizes, strict=True)
        ),
    )


def _certain(mark: DrawnBox) -> float:
    """Order labels that were missed first, then boxes by score."""
    return -2.0 if mark.score is None else -mark.score


def _box(mark: DrawnBox, size: tuple[int, int], names: Sequence[str]) -> SampleBox:
    x1, y1, x2, y2 = (round(min(1.0, max(0.0, value / size[at % 2])), 4) for at, value in enumerate(mark.box))
    return SampleBox(
        outcome=mark.outcome or "found", name=names[mark.class_id], x1=x1, y1=y1, x2=x2, y2=y2,
        score=None if mark.score is None else round(mark.score, 3),
    )  # fmt: skip


def _image(path: Path) -> SampledImage:
    picture = reader.picture(path)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)
    jpeg = base64.b64encode(data.getvalue()).decode()
    return SampledImage(file=reader.shown(path.name), width=picture.width, height=picture.height, jpeg=jpeg)
