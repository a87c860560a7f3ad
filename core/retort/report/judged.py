"""Publish what validation found: the mistakes, curves and confusions of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from retort.pipeline.context import Context
from retort.report.mistakes import SCORE_FROM, ImageBoxes, gather
from retort.report.samples import DrawnBox
from retort.review.models import MATCH_IOU
from retort.spec.curves import CURVES
from retort.spec.mistakes import MISTAKES

if TYPE_CHECKING:
    from retort.training.bootstrap import Matches
    from retort.training.evaluate import FoundImage


def publish_mistakes(context: Context, found: Mapping[str, Sequence[FoundImage]]) -> None:
    """Publish what networks find wrongly or miss, with the first one's worst images."""
    from retort.training.evaluate import SIZES

    if found:
        context.heartbeat.beat("setup")
        boxes = {name: [_boxes(*image) for image in images] for name, images in found.items()}
        context.publish_document(MISTAKES, gather(boxes, context.inputs.dataset.names, SIZES))


def publish_curves(
    context: Context,
    matches: Mapping[str, Matches],
    found: Mapping[str, Sequence[FoundImage]],
    letterboxes: Mapping[str, Literal["rectangle", "square", "shape"] | None],
) -> None:
    """Publish precision-recall curves and confusion matrices of the networks whose boxes were kept."""
    from retort.training import curves

    if found:
        context.heartbeat.beat("setup")
        judged = {
            name: curves.Judged(matches[name], images, letterboxes.get(name) or "rectangle")
            for name, images in found.items()
        }
        names = context.inputs.dataset.names
        context.publish_document(CURVES, curves.gather(judged, names, iou=MATCH_IOU, score_from=SCORE_FROM))


def _boxes(file: str, labels: Any, boxes: Any) -> ImageBoxes:
    return ImageBoxes(
        Path(file),
        [DrawnBox((x1, y1, x2, y2), int(label)) for label, x1, y1, x2, y2 in labels.tolist()],
        [DrawnBox((x1, y1, x2, y2), int(label), score) for score, label, x1, y1, x2, y2 in boxes.tolist()],
    )
