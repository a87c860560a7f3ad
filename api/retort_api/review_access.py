"""Read and validate a job's review data."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from retort.db import Database, artifacts, jobs
from retort.db.artifacts import ArtifactNotFound
from retort.errors import UserError
from retort.review.formats.base import box
from retort.review.models import REVIEW, Picture, ReviewError, ReviewSet
from retort.storage import Store

from retort_api.errors import Mistake
from retort_api.schemas.reviews import BoxIn

_MOST = 8
In = TypeVar("In", bound=BaseModel)


class ReviewNotFound(UserError):
    """The job has no review (yet)."""

    code = "review_not_found"


class ImageNotFound(UserError):
    """The review has no such image."""

    code = "image_not_found"


class BadDecision(ReviewError):
    """The decision is malformed."""

    def __init__(self, error: ValidationError) -> None:
        self.mistakes = tuple(
            Mistake(path=".".join(map(str, item["loc"])) or "$", detail=item["msg"], hint=None)
            for item in error.errors()
        )
        first = self.mistakes[0]
        super().__init__(f"{first.path}: {first.detail}", hint="docs/review.md shows decisions")


class ReviewCache:
    """Cache of recently used review sets; a review set never changes."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, ReviewSet] = OrderedDict()
        self._lock = threading.Lock()

    def of_job(self, database: Database, project: str | None, store: Store, job_id: str) -> ReviewSet:
        """Return the review set of a job of *project*.

        No connection is held during the read.

        Raises:
            JobNotFound: there is no such job.
            ReviewNotFound: it has no review (yet).

        """
        with database.read(project=project) as session:
            jobs.get(session, job_id)
            try:
                row = artifacts.named(session, job_id, REVIEW)
            except ArtifactNotFound as error:
                hint = "a job with pseudo_labels.review has one as soon as its teacher has labelled the images"
                raise ReviewNotFound(f"job {job_id} has no review", hint=hint) from error
        with self._lock:
            found = self._known.get(row.sha256)
        if found is None:
            found = ReviewSet.model_validate_json(b"".join(store.read(row.key)))
        with self._lock:
            self._known[row.sha256] = found
            self._known.move_to_end(row.sha256)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found


def find_picture(review_set: ReviewSet, image: str) -> Picture:
    """Return the picture named *image* of the review.

    Raises:
        ImageNotFound: there is none.

    """
    for picture in review_set.pictures:
        if picture.image == image:
            return picture
    raise ImageNotFound(f"this review has no image {image[:120]!r}", hint="GET …/review/images lists them")


def validate_decision(model: type[In], document: object) -> In:
    """Validate a reviewer's decision as *model*.

    Raises:
        BadDecision: it is not what the address takes.

    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise BadDecision(error) from error


def resolve_boxes(boxes: tuple[BoxIn, ...] | None, review_set: ReviewSet) -> list[dict[str, object]] | None:
    """Return the boxes of a decision; their classes must be the job's.

    Raises:
        ReviewError: one is of another class, or has no area.

    """
    if boxes is None:
        return None
    return [
        box(one.name, (one.x1, one.y1, one.x2, one.y2), review_set.classes, f"boxes.{index}").model_dump()
        for index, one in enumerate(boxes)
    ]
