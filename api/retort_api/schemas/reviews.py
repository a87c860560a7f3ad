"""Define the JSON of reviews: images and decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from retort.review.models import MOST_BOXES, REVIEWER, SOMEBODY, UNDECIDED, Box, ImageDecision, Picture, Scored
from retort.states import JobState

from retort_api.schemas.jobs import ResponseModel, job_path


class ReviewLinks(ResponseModel):
    """Addresses on this service."""

    job: str
    images: str
    export: str
    complete: str


class Review(ResponseModel):
    """How far a review is."""

    job_id: str
    state: JobState
    """``awaiting_review`` as long as decisions count."""
    mode: Literal["sample", "all"]
    classes: tuple[str, ...]
    num_images: int
    num_boxes: int
    """That the teacher has put on these images."""
    num_accepted: int
    num_rejected: int
    num_edited: int
    num_open: int
    num_looked_at: int
    """Images that somebody has looked at and decided about."""
    notes: tuple[str, ...] = ()
    """After an import: what was made of the file."""
    open: tuple[str, ...]
    """Images that nobody has decided about, the first hundred."""
    links: ReviewLinks

    @classmethod
    def of(cls, job_id: str, state: JobState, summary: dict[str, Any], notes: tuple[str, ...] = ()) -> Review:
        """Return the summary as it is shown."""
        home = f"{job_path(job_id)}/review"
        links = {"job": job_path(job_id), **{part: f"{home}/{part}" for part in ("images", "export", "complete")}}
        return cls.model_validate({"job_id": job_id, "state": state, **summary, "notes": notes, "links": links})


class ReviewDecision(ResponseModel):
    """What somebody has decided about an image."""

    decision: Literal["accept", "reject", "edit"]
    boxes: tuple[Box, ...] | None
    """With ``edit``: all that there is on the image."""
    reviewer: str
    at: datetime
    seen: bool
    """Whether the image was looked at; not, where it was only said what becomes of the rest."""


class ReviewImageLinks(ResponseModel):
    """Addresses on this service."""

    self: str
    picture: str


class ReviewImage(ResponseModel):
    """An image to look at."""

    image: str
    file: str
    """Its path in the folder that the spec names."""
    width: int
    height: int
    """In pixels, of the picture that is shown."""
    boxes: tuple[Scored, ...]
    """What the teacher has labelled, as shares of the sides."""
    doubtful: tuple[Scored, ...]
    """What the teacher was not certain enough of: neither label nor background."""
    decision: ReviewDecision | None
    version: str
    """Of the decision, or ``open``; also the ``ETag`` of the image."""
    links: ReviewImageLinks

    @classmethod
    def of(cls, job_id: str, picture: Picture, decision: ImageDecision | None) -> ReviewImage:
        """Return the picture as it is shown."""
        home = job_path(job_id)
        links = {
            "self": f"{home}/review/images/{quote(picture.image)}",
            "picture": f"{home}/artifacts/review/{quote(picture.image)}.jpg",
        }
        about = {name: getattr(picture, name) for name in ("image", "file", "width", "height", "doubtful")}
        version = UNDECIDED if decision is None else decision.version
        known = {"boxes": picture.kept, "decision": decision, "version": version, "links": links}
        return cls.model_validate({**about, **known})


class ReviewImagePage(ResponseModel):
    """Images to look at, by name."""

    data: tuple[ReviewImage, ...]
    next_cursor: str | None
    has_more: bool


class _RequestModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class BoxIn(_RequestModel):
    """A box, by its corners as shares of the image's sides."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Of its class."""
    x1: Annotated[float, Field(ge=0, le=1)]
    y1: Annotated[float, Field(ge=0, le=1)]
    x2: Annotated[float, Field(ge=0, le=1)]
    y2: Annotated[float, Field(ge=0, le=1)]


class Decide(_RequestModel):
    """A decision about one image."""

    decision: Literal["accept", "reject", "edit"]
    """Take the teacher's boxes, leave the image out, or put other boxes on it."""
    boxes: Annotated[tuple[BoxIn, ...], Field(max_length=MOST_BOXES)] | None = None
    """With ``edit``: all that there is on the image."""
    reviewer: Annotated[str, Field(pattern=REVIEWER)] = SOMEBODY


class Complete(_RequestModel):
    """The end of a review."""

    rest: Literal["accept", "reject"] | None = None
    """What becomes of the images that are open; null where none is meant to be."""
    reviewer: Annotated[str, Field(pattern=REVIEWER)] = SOMEBODY
