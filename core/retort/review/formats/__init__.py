"""Annotation formats for other tools: export a review, and import its decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from retort.review.formats import coco, cvat, label_studio, yolo
from retort.review.formats.base import AnnotatedImage, AnnotationFormat, ImageSet
from retort.review.models import ImageDecision, ReviewError, ReviewSet, undecided, verdict_for

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


def import_decisions(review_set: ReviewSet, name: str, data: bytes, *, reviewer: str, at: float) -> list[ImageDecision]:
    """Return the decisions in a file of format *name*.

    The boxes in the file replace others.

    Raises:
        ReviewError: the file cannot be used, or speaks of other pictures; then nothing of it counts.

    """
    found = annotation_format(name).read(data, review_set.classes)
    known = {picture.image: picture for picture in review_set.pictures}
    if unknown := [image for image in found if image not in known]:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        hint = "keep the names of the exported images, and send those alone"
        raise ReviewError(f"{unknown[0][:120]!r} is no image of this review{more}", hint=hint)
    decisions = []
    for image, boxes in found.items():
        try:
            verdict = verdict_for(known[image], boxes)
        except ValidationError as error:
            raise ReviewError(f"{image}: {error.errors()[0]['msg']}", hint="fewer boxes") from error
        about = {"image": image, "reviewer": reviewer, "at": at}
        decisions.append(ImageDecision.model_validate({**verdict.model_dump(), **about}))
    return decisions
