"""Predict the teacher's boxes on images; keep them to resume from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from retort import class_names, files
from retort.constants import Role
from retort.errors import ModelError
from retort.files import sha256_of
from retort.pipeline import train
from retort.pipeline.context import Context
from retort.review.models import DIGITS, Scored

if TYPE_CHECKING:
    from retort.training.detection import Detection as Detected
    from retort.training.detection import Detector

_AT_A_TIME = 128
"""Images whose boxes are kept together: what a killed stage has to do again."""

_adapter: TypeAdapter[list[list[Scored]]] = TypeAdapter(list[list[Scored]])


def detect(
    context: Context, images: Sequence[Path], sizes: Sequence[tuple[int, int]], *, conf: float, kind: str
) -> Iterator[tuple[Scored, ...]]:
    """Yield the teacher's detections on each image, most certain first.

    They are those from the score *conf* on.

    Args:
        context: the stage's.
        images: files, whose width and height in pixels are *sizes*.
        sizes: see there.
        conf: lowest score.
        kind: what images these are; an attempt that follows finds theirs by this name.

    """
    weights = train.weights(context)
    origin = hashlib.sha256(f"{context.key} {sha256_of(weights)}".encode()).hexdigest()
    kept = context.lasting_folder(f"boxes-{origin[:12]}")
    names = class_numbers(weights, context.inputs.dataset.names)
    with ExitStack() as stack:
        detector: Detector | None = None  # images that an earlier attempt has seen need none
        for start in range(0, len(images), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            path = kept / f"{kind}-{start:07d}.json"
            found = _load(path)
            if found is None:
                detector = detector or stack.enter_context(_detector(context, weights, conf))
                found = _predict(context, detector, images[part], sizes[part], names)
                files.atomic_write(path, _adapter.dump_json(found))
            yield from map(tuple, found)


def _detector(context: Context, weights: Path, conf: float) -> Detector:
    from retort.training.detection import load_detector

    size = train.imgsz(context.spec, Role.TEACHER)
    log = partial(context.journal.log, level="warning")
    return load_detector(weights, imgsz=size, device=context.inputs.device, conf=conf, log=log)


def _predict(
    context: Context,
    detector: Detector,
    images: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    names: Mapping[int, str],
) -> list[list[Scored]]:
    from retort.training.detection import MOST_DETECTIONS

    def alive() -> None:
        context.check()
        context.heartbeat.beat("step")

    found = detector(images, on_image=alive)
    full = sum(len(boxes) >= MOST_DETECTIONS for boxes in found)
    if full:
        context.journal.log(
            f"{full} images have {MOST_DETECTIONS:,} boxes or more: no more are kept, the rest is background",
            "warning",
            num_images=full,
        )
    return [
        _distinct(scored for box in boxes if (scored := _scored(box, names.get(box.class_id), size)) is not None)
        for boxes, size in zip(found, sizes, strict=True)
    ]


def _distinct(boxes: Iterable[Scored]) -> list[Scored]:
    """Keep the most certain of boxes that are the same inside the image."""
    return list({box.plain(): box for box in reversed(list(boxes))}.values())[::-1]


def _scored(box: Detected, name: str | None, size: tuple[int, int]) -> Scored | None:
    """Return the box as shares of the image's sides; None for other classes than the data's, and for a mere line."""
    sides = (box.x1 / size[0], box.y1 / size[1], box.x2 / size[0], box.y2 / size[1])
    x1, y1, x2, y2 = (round(min(1.0, max(0.0, side)), DIGITS) for side in sides)
    if name is None or x1 >= x2 or y1 >= y2:
        return None
    return Scored(name=name, score=box.score, x1=x1, y1=y1, x2=x2, y2=y2)


def class_numbers(weights: Path, names: Sequence[str]) -> dict[int, str]:
    """Return the data's class names by the network's numbers.

    Raises:
        ModelError: the network knows none of them.

    """
    from retort.training import teachers
    from retort.training.models import ClassMap

    network = teachers.load(weights)
    classes = ClassMap.between(dict(enumerate(names)), network.names)
    if classes.size == 0:
        hint = class_names.warning(names, tuple(network.names.values()), "it") or f"the data has {', '.join(names)}"
        raise ModelError(f"{weights.name} knows none of the data's classes, so it cannot label them", hint=hint)
    if classes.student is None or classes.teacher is None:
        return dict(enumerate(names))
    return {
        teacher: names[student]
        for teacher, student in zip(classes.teacher.tolist(), classes.student.tolist(), strict=True)
    }


def _load(path: Path) -> list[list[Scored]] | None:
    try:
        return _adapter.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
