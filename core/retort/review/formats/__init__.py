"""Annotation formats for other tools: export a review, and import its decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from retort.review.formats import coco, cvat, label_studio, names, yolo
from retort.review.formats.base import AnnotatedImage, AnnotationFormat, ImageSet, ReadFile, ReadImage
from retort.review.models import ImageDecision, ImageVerdict, Picture, ReviewError, ReviewSet, undecided, verdict_for

LookedAt = Literal["changed", "all"]
"""Which pictures in a file were looked at, where its form does not say."""

FORMS: dict[str, AnnotationFormat] = {
    "coco": AnnotationFormat(coco.write, coco.read, "application/json", ".json"),
    "yolo": AnnotationFormat(yolo.write, yolo.read, "application/zip", ".zip"),
    "cvat": AnnotationFormat(cvat.write, cvat.read, "application/xml", ".xml"),
    "label_studio": AnnotationFormat(label_studio.write, label_studio.read, "application/json", ".json"),
}
"""By name."""

_SHOWN = 100
"""Open images that a summary names."""


def summary(review_set: ReviewSet, decisions: Mapping[str, ImageDecision]) -> dict[str, Any]:
    """Return the progress of the review."""
    remaining = undecided(review_set, decisions)
    own = [picture for picture in review_set.pictures if picture.image in decisions]
    counted = Counter(decisions[picture.image].decision for picture in own)
    return {
        "mode": review_set.mode,
        "classes": review_set.classes,
        "num_images": len(review_set.pictures),
        "num_boxes": sum(len(picture.kept) for picture in review_set.pictures),
        "num_accepted": counted["accept"],
        "num_rejected": counted["reject"],
        "num_edited": counted["edit"],
        "num_open": len(remaining),
        "num_looked_at": sum(decisions[picture.image].seen for picture in own),
        "open": tuple(remaining[:_SHOWN]),
    }


def annotation_format(name: str) -> AnnotationFormat:
    """Return the annotation format named *name*.

    Raises:
        ReviewError: there is none.

    """
    if name not in FORMS:
        raise ReviewError(f"there is no form {name!r}", hint=f"known: {', '.join(FORMS)}")
    return FORMS[name]


def annotated_images(review_set: ReviewSet, decisions: Mapping[str, ImageDecision]) -> ImageSet:
    """Return the pictures with their present boxes, without rejected ones."""
    pictures = []
    for picture in review_set.pictures:
        decision = decisions.get(picture.image)
        if decision is not None and decision.decision == "reject":
            continue
        boxes = picture.plain() if decision is None or decision.boxes is None else decision.boxes
        marked = {"image": picture.image, "width": picture.width, "height": picture.height, "boxes": boxes}
        pictures.append(AnnotatedImage.model_validate(marked))
    return ImageSet(classes=review_set.classes, pictures=tuple(pictures))


@dataclass(frozen=True, slots=True)
class ImportedReview:
    """Decisions that follow from a file, and what was made of its pictures."""

    decisions: tuple[ImageDecision, ...]
    notes: tuple[str, ...]
    """What was counted, in words."""


def import_decisions(
    review_set: ReviewSet, name: str, data: bytes, *, reviewer: str, at: float, looked_at: LookedAt = "changed"
) -> ImportedReview:
    """Return the decisions in a file of format *name*.

    The boxes in the file replace others. A picture that nobody has answered about stays open; where the form does not
    say, one whose boxes are the teacher's stays open too, unless *looked_at* says that all were looked at.

    Raises:
        ReviewError: the file cannot be used, or speaks of other pictures; then nothing of it counts.

    """
    found = annotation_format(name).read(data, review_set.classes)
    known = {picture.image: picture for picture in review_set.pictures}
    counted = Counter[str]()
    decisions: dict[str, ImageDecision] = {}
    for image, read in _resolved(found, known).items():
        verdict = _verdict(known[image], read)
        answered = read.answered if read.answered is not None else looked_at == "all" or verdict.decision == "edit"
        counted[verdict.decision if answered else "open"] += 1
        if answered:
            about = {"image": image, "reviewer": reviewer, "at": at}
            decisions[image] = ImageDecision.model_validate({**verdict.model_dump(), **about})
    return ImportedReview(tuple(decisions.values()), tuple(_told(counted, found, len(known))))


def _resolved(found: ReadFile, known: Collection[str]) -> dict[str, ReadImage]:
    """Return the pictures by the names that they have in the review."""
    named: dict[str, ReadImage] = {}
    unknown: list[tuple[str, str]] = []
    for key, read in found.images.items():
        image = key if key in known else names.resolve((key, *read.names), known)
        if image is None:
            unknown.append((read.place, key))
        elif image in named:
            hint = "each image once: export without copies or augmentation"
            raise ReviewError(f"{read.place}: the image {image} is there twice", hint=hint)
        else:
            named[image] = read
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        hint = "keep the names of the exported images, and send those alone"
        place, name = unknown[0]
        raise ReviewError(f"{place}: {name[:120]!r} is no image of this review{more}", hint=hint)
    return named


def _verdict(picture: Picture, read: ReadImage) -> ImageVerdict:
    try:
        return verdict_for(picture, read.boxes)
    except ValidationError as error:
        raise ReviewError(f"{picture.image}: {error.errors()[0]['msg']}", hint="fewer boxes") from error


def _told(counted: Counter[str], found: ReadFile, num_images: int) -> Iterator[str]:
    yield (
        f"the file has {len(found.images)} of {num_images} images: {counted['accept']} accepted, "
        f"{counted['edit']} corrected, {counted['open']} not looked at"
    )
    if counted["open"] and any(read.answered is None for read in found.images.values()):
        yield (
            "boxes that are still the teacher's say nothing of whether somebody has looked: where all were looked at, "
            "import with looked-at all, or accept the open images"
        )
    yield from (f"not read: {number} {what}" for what, number in found.ignored.items())
