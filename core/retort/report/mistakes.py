"""Gather what networks find wrongly or miss, with the worst images."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from retort import images as reader
from retort.report.samples import DrawnBox, judged
from retort.review.models import MATCH_IOU, overlap
from retort.spec.mistakes import (
    Confusion,
    MarkedBox,
    MistakenImage,
    Mistakes,
    NetworkMistakes,
    Outcome,
    OutcomeCounts,
)

SCORE_FROM = 0.25
"""Score from which on a box counts, as in predictions of plain Ultralytics."""
MOST_IMAGES = 40
"""Images that are kept of all."""
MOST_OF_A_CLASS = 3
"""Images that are kept of each class beside them."""
MOST_KEPT = 100
_SIDE = 480
"""Longer side of their copies."""
Sizes = Mapping[str, tuple[float, float]]
"""Areas of boxes by size, in pixels of the original image."""


@dataclass(frozen=True, slots=True)
class ImageBoxes:
    """One image with its labels and a network's boxes, in pixels of the original."""

    path: Path
    labels: Sequence[DrawnBox]
    boxes: Sequence[DrawnBox]


@dataclass(frozen=True, slots=True)
class _Judged:
    """One image with the outcome of each box."""

    path: Path
    marks: Sequence[DrawnBox]

    @property
    def cost(self) -> float:
        """Return the labels missed and the scores of the wrong boxes, summed up."""
        return sum(1.0 if one.outcome == "missed" else one.score or 0.0 for one in self.mistakes)

    @property
    def mistakes(self) -> list[DrawnBox]:
        return [one for one in self.marks if one.outcome != "found"]


def gather(found: Mapping[str, Sequence[ImageBoxes]], names: Sequence[str], sizes: Sizes) -> Mistakes:
    """Return the mistakes of each network, and the first one's worst images.

    All networks have seen the same images.
    """
    outcomes = {
        role: [_Judged(one.path, judged(one.boxes, one.labels)) for one in images] for role, images in found.items()
    }
    network, first = next(iter(outcomes.items()))
    return Mistakes(
        names=tuple(names), score_from=SCORE_FROM, iou=MATCH_IOU, num_images=len(first),
        num_mistaken=sum(bool(one.mistakes) for one in first), network=network,
        networks={role: _network(images, names, sizes) for role, images in outcomes.items()},
        images=tuple(
            _image(first[index], {role: images[index] for role, images in outcomes.items()}, names, sizes)
            for index in _worst(first)
        ),
    )  # fmt: skip


def _worst(images: Sequence[_Judged]) -> list[int]:
    """Choose the worst images of all, and the worst of each class, the worst first."""
    order = sorted((index for index, one in enumerate(images) if one.mistakes), key=lambda at: (-images[at].cost, at))
    chosen = dict.fromkeys(order[:MOST_IMAGES])
    kept = Counter[int]()
    for index in order:
        classes = {mark.class_id for mark in images[index].mistakes}
        if any(kept[label] < MOST_OF_A_CLASS for label in classes) and len(chosen) < MOST_KEPT:
            chosen[index] = None
        kept.update(classes)
    return sorted(chosen, key=order.index)


def _network(images: Sequence[_Judged], names: Sequence[str], sizes: Sizes) -> NetworkMistakes:
    marks = [mark for one in images for mark in one.marks]
    by_class = Counter((names[mark.class_id], mark.outcome) for mark in marks)
    by_size = Counter((_size(mark, sizes), mark.outcome) for mark in marks)
    confused = Counter(pair for one in images for pair in _confusions(one))
    return NetworkMistakes(
        total=_counts(marks),
        per_class={name: _of(by_class, name) for name in names},
        by_size={size: _of(by_size, size) for size in sizes},
        confusions=tuple(
            Confusion(label=names[label], seen=names[seen], number=number)
            for (label, seen), number in sorted(confused.items(), key=lambda one: (-one[1], one[0]))
        ),
    )


def _of(counted: Counter[tuple[str, Outcome | None]], key: str) -> OutcomeCounts:
    return OutcomeCounts(found=counted[key, "found"], wrong=counted[key, "wrong"], missed=counted[key, "missed"])


def _counts(marks: Sequence[DrawnBox]) -> OutcomeCounts:
    counted = Counter(mark.outcome for mark in marks)
    return OutcomeCounts(found=counted["found"], wrong=counted["wrong"], missed=counted["missed"])


def _confusions(one: _Judged) -> list[tuple[int, int]]:
    """Return label and seen class of each wrong box that covers a missed label of another class."""
    missed = [mark for mark in one.marks if mark.outcome == "missed"]
    pairs: list[tuple[int, int]] = []
    for wrong in (mark for mark in one.marks if mark.outcome == "wrong"):
        near = [(overlap(wrong.box, label.box), label) for label in missed]
        best = max(near, key=lambda pair: pair[0], default=None)
        if best is not None and best[0] >= MATCH_IOU:
            pairs.append((best[1].class_id, wrong.class_id))
            missed.remove(best[1])
    return pairs


def _size(mark: DrawnBox, sizes: Sizes) -> str:
    area = max(0.0, mark.box[2] - mark.box[0]) * max(0.0, mark.box[3] - mark.box[1])
    return next((size for size, (low, high) in sizes.items() if low <= area < high), "large")


def _image(one: _Judged, networks: Mapping[str, _Judged], names: Sequence[str], sizes: Sizes) -> MistakenImage:
    picture = reader.picture(one.path)
    width, height = picture.size
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)

    def share(value: float, side: int) -> float:
        return round(min(1.0, max(0.0, value / side)), 4)

    boxes = tuple(
        MarkedBox(
            outcome=mark.outcome or "found", name=names[mark.class_id], size=_size(mark, sizes),
            score=None if mark.score is None else round(mark.score, 3),
            x1=share(mark.box[0], width), y1=share(mark.box[1], height),
            x2=share(mark.box[2], width), y2=share(mark.box[3], height),
        )
        for mark in one.marks
    )  # fmt: skip
    return MistakenImage(
        file=reader.shown(one.path.name), width=picture.width, height=picture.height, cost=round(one.cost, 3),
        boxes=boxes, networks={role: _counts(judged.marks) for role, judged in networks.items()},
        jpeg=base64.b64encode(data.getvalue()).decode(),
    )  # fmt: skip
