"""Publish pseudo-labels for review, or apply the decisions."""

from __future__ import annotations

from typing import Literal

from PIL import Image

from retort import images as reader
from retort.constants import Role
from retort.errors import AwaitingReview, DataError
from retort.files import atomic_write
from retort.labelling import quality
from retort.pipeline.answers import ReviewedImages
from retort.pipeline.context import Context
from retort.protocol.workdir import DECISIONS
from retort.review import metrics
from retort.review.figures import ReviewFigures
from retort.review.models import (
    LABELS,
    PICTURES,
    REVIEW,
    REVIEWED,
    Decisions,
    Picture,
    PseudoLabels,
    Reviewed,
    ReviewError,
    ReviewSet,
    effective_labels,
    undecided,
)
from retort.spec import JobSpec

after = "pseudo_label"

LONGEST_PX = 960
"""Longer side of the pictures that are published for reviewers."""


def applies(spec: JobSpec) -> bool:
    """Return True where the spec asks for a review."""
    return spec.pseudo_labels is not None and spec.pseudo_labels.review != "none"


def cost(spec: JobSpec) -> float:  # noqa: ARG001 - people's time is not the machine's
    """Return the stage's share of the run: next to nothing."""
    return 0.1


def run(context: Context) -> ReviewedImages:
    """Publish the images to review, or apply the decisions.

    Raises:
        AwaitingReview: there are pictures that nobody has decided about.
        DataError: what was decided is malformed.

    """
    wanted = context.spec.pseudo_labels
    assert wanted is not None
    labels = PseudoLabels.model_validate_json(context.artifact(LABELS).read_bytes())
    pictures = quality.select_for_review(labels.pictures, wanted, context.spec.training.seed)
    mode: Literal["sample", "all"] = "all" if wanted.review == "all" else "sample"
    review_set = ReviewSet(mode=mode, classes=labels.classes, pictures=pictures)
    try:
        decisions = Decisions.load(context.workdir / DECISIONS)
    except ReviewError as error:
        raise DataError(error.message, hint=error.hint) from error
    remaining = undecided(review_set, decisions)
    if remaining:
        _publish(context, review_set)
        message = f"{len(remaining)} of {len(pictures)} images wait to be looked at"
        raise AwaitingReview(message, num_images=len(remaining))
    figures = metrics.review_figures(labels.pictures, decisions, labels.classes, mode=mode)
    used = tuple(
        one
        for picture in labels.pictures
        if (one := effective_labels(picture, decisions.get(picture.image))) is not None
    )
    context.journal.log(_sentence(figures, len(used)), **figures.model_dump(mode="json"))
    reviewed = Reviewed(classes=labels.classes, pictures=used, figures=figures)
    atomic_write(context.artifact(REVIEWED), reviewed.model_dump_json().encode())
    context.publish(REVIEWED, Role.JOB, "application/json")
    return ReviewedImages(figures=figures, num_used=len(used), num_boxes=sum(len(one.boxes) for one in used))


def _publish(context: Context, review_set: ReviewSet) -> None:
    """Publish small copies of the images, so that nobody needs the data to look at them, and then their list."""
    facts = context.inputs.to_label
    assert facts is not None, "intake has found them"
    files = {path.stem: path for path in (facts.folder / "images").iterdir()}
    shown: list[Picture] = []
    for number, picture in enumerate(review_set.pictures, start=1):
        context.check()
        context.heartbeat.beat("step")
        name = f"{PICTURES}{picture.image}.jpg"
        small = reader.picture(files[picture.image])
        small.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
        small.save(context.artifact(name), "JPEG", quality=88)
        context.publish(name, Role.JOB, "image/jpeg", width=small.width, height=small.height)
        shown.append(picture.model_copy(update={"width": small.width, "height": small.height}))
        context.progress(number / len(review_set.pictures))
    told = review_set.model_copy(update={"pictures": tuple(shown)})
    atomic_write(context.artifact(REVIEW), told.model_dump_json().encode())
    context.publish(REVIEW, Role.JOB, "application/json")


def _sentence(figures: ReviewFigures, num_used: int) -> str:
    found = figures.precision
    total = figures.num_images + figures.num_unseen
    said = f"{figures.num_images} of {total} images were looked at, {num_used} are trained on"
    if found.value is None or found.low is None or found.high is None:
        return said
    return (
        f"{said}; {found.right} of the teacher's {found.total} labels on them are right: a precision of "
        f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    )
