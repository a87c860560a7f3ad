"""Images with proposed boxes, the decisions of reviewers, and the labels that follow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from retort.errors import UserError
from retort.review.figures import LabelFigures, ReviewFigures
from retort.schema import FrozenModel, field_error

DIGITS = 6
"""Decimals of a coordinate: what is finer is less than a pixel of any image, and lost by other tools."""
MATCH_IOU = 0.5
"""Two boxes of one class that overlap so much mean the same object."""

Share = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda value: round(value, DIGITS))]
Corners = tuple[float, float, float, float]
"""``x1, y1, x2, y2``, in any unit."""


class Box(FrozenModel):
    """A labelled object: the name of its class, and its corners as shares of the image's sides."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    x1: Share
    y1: Share
    x2: Share
    y2: Share

    @model_validator(mode="after")
    def _has_area(self) -> Self:
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise field_error("the box has no area", hint="x1 lies left of x2, and y1 above y2")
        return self

    @property
    def corners(self) -> Corners:
        """Corners of the box."""
        return self.x1, self.y1, self.x2, self.y2


class Scored(Box):
    """A box that a network has found."""

    score: Annotated[float, Field(ge=0, le=1), AfterValidator(lambda value: round(value, 4))]

    def plain(self) -> Box:
        """Return the box without its score."""
        return Box(name=self.name, x1=self.x1, y1=self.y1, x2=self.x2, y2=self.y2)


First = TypeVar("First", bound=Box)
Second = TypeVar("Second", bound=Box)


def iou(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes."""
    return overlap(one.corners, other.corners)


def overlap(one: Corners, other: Corners) -> float:
    """Return the ``iou`` of two boxes by their corners."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)]
    return width * height / (sum(areas) - width * height)


def matched(found: Sequence[First], expected: Sequence[Second]) -> list[tuple[First, Second | None]]:
    """Match each found box to the expected box that overlaps it most.

    The boxes of *found* choose in their order, and each of *expected* is matched at most once. A match needs the same
    class.
    """
    left = list(expected)
    pairs: list[tuple[First, Second | None]] = []
    for box in found:
        overlaps = [(iou(box, other), -index) for index, other in enumerate(left) if other.name == box.name]
        best = max(overlaps, default=(0.0, 0))
        pairs.append((box, left.pop(-best[1]) if best[0] >= MATCH_IOU else None))
    return pairs


IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$"
"""Names of images: they are files, parts of addresses, and keys in a database."""
ImageName = Annotated[str, Field(pattern=IMAGE)]

PICTURES = "review/"
"""Where copies of the images lie for people to look at."""
LABELS = "pseudo-labels.json"
REVIEW = "review.json"
REVIEWED = "pseudo-labels-reviewed.json"


class Picture(FrozenModel):
    """One image with the boxes that the teacher has found."""

    image: ImageName
    file: str
    """Its path in the folder that the spec names."""
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    kept: tuple[Scored, ...]
    """Boxes that are labels, most certain first."""
    doubtful: tuple[Scored, ...] = ()
    """Boxes that are neither labels nor background."""
    left_out: Literal["validation", "training", "duplicate", "empty"] | None = None
    """Why it is not trained on: it looks like one of the data set's, or like another of these, or it has no label."""
    like: str | None = None
    """The image that it looks like."""

    def plain(self) -> tuple[Box, ...]:
        """Return the labels without their scores."""
        return tuple(box.plain() for box in self.kept)


class Doubt(Box):
    """A training label where the teacher sees no object of its class."""

    instead: str | None
    """What the teacher is certain to see there."""


class Suspect(FrozenModel):
    """A training image whose labels the teacher disputes."""

    image: str
    missing: tuple[Scored, ...]
    """What the teacher is certain to see where there is no label."""
    doubtful: tuple[Doubt, ...]
    duplicate: tuple[Box, ...]
    """Labels that lie on an earlier one of the same class."""


class PseudoLabels(FrozenModel):
    """All pseudo-labels of the teacher, with quality figures."""

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    suspects: tuple[Suspect, ...] = ()
    """Training images, where the spec wants these to be looked at."""
    figures: LabelFigures


class ReviewSet(FrozenModel):
    """Images to review, with the sizes of their published copies."""

    mode: Literal["sample", "all"]
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]


class Labelled(FrozenModel):
    """A picture with the labels to train on."""

    image: ImageName
    boxes: tuple[Box, ...]
    ignored: tuple[Box, ...] = ()
    """Neither labels nor background."""
    by: Literal["teacher", "reviewer"]


class Reviewed(FrozenModel):
    """Reviewed images to train on, and the reviewers' figures."""

    classes: tuple[str, ...]
    pictures: tuple[Labelled, ...]
    figures: ReviewFigures


REVIEWER = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$"
SOMEBODY = "somebody"
MOST_BOXES = 2000
"""On one picture."""
Verdict = Literal["accept", "reject", "edit"]


class ReviewError(UserError):
    """The review data is invalid."""

    code = "bad_review"


class ImageVerdict(FrozenModel):
    """Verdict on a picture: accept, reject, or edit its boxes.

    To accept keeps the teacher's boxes, to reject leaves the picture out, and to edit puts other boxes on it.
    """

    decision: Verdict
    boxes: Annotated[tuple[Box, ...], Field(max_length=MOST_BOXES)] | None = None
    """With ``edit``: all that there is on the picture; none are background."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.decision == "edit" and self.boxes is None:
            raise field_error(
                "edit needs the boxes", at="boxes", hint="all boxes of the picture; [] where there is none"
            )
        if self.decision != "edit" and self.boxes is not None:
            raise field_error("boxes belong to edit only", at="boxes", hint="leave them out, or decide edit")
        return self


UNDECIDED = "open"
"""The version of an image that nobody has decided about."""


class ImageDecision(ImageVerdict):
    """Verdict on one image, with reviewer and time."""

    image: ImageName
    reviewer: Annotated[str, Field(pattern=REVIEWER)] = SOMEBODY
    at: float
    """Unix time in seconds."""
    seen: bool = True
    """Whether the picture was looked at; not, where it was only said what becomes of the rest."""

    @property
    def version(self) -> str:
        """Tell this decision from any other about the image."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class Decisions(FrozenModel):
    """All decisions about one job, as its run reads them."""

    decisions: tuple[ImageDecision, ...]

    @classmethod
    def load(cls, path: Path) -> Mapping[str, ImageDecision]:
        """Read the decisions in the file at *path*, if it exists.

        Later decisions about an image replace earlier ones.

        Raises:
            ReviewError: it is malformed.

        """
        try:
            found = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "$"
            raise ReviewError(f"{path.name}: {place}: {first['msg']}", hint="docs/review.md has the form") from error
        return {decision.image: decision for decision in found.decisions}


def undecided(review_set: ReviewSet, decided: Iterable[str]) -> list[str]:
    """Return the pictures without a decision, in order."""
    known = set(decided)
    return [picture.image for picture in review_set.pictures if picture.image not in known]


def verdict_for(picture: Picture, boxes: Sequence[Box]) -> ImageVerdict:
    """Return the verdict for *boxes*: accepted where they equal the teacher's."""
    if sorted(map(_key, boxes)) == sorted(map(_key, picture.plain())):
        return ImageVerdict(decision="accept")
    return ImageVerdict(decision="edit", boxes=tuple(boxes))


def effective_labels(picture: Picture, verdict: ImageVerdict | None) -> Labelled | None:
    """Return *picture* with the labels to train on, or None.

    None means that the picture is left out. Where a person drew the boxes, what was doubtful is decided.
    """
    if verdict is None or verdict.decision == "accept":
        if picture.left_out is not None and not (verdict and picture.left_out == "empty"):
            return None
        ignored = tuple(box.plain() for box in picture.doubtful)
        by: Literal["teacher", "reviewer"] = "reviewer" if verdict else "teacher"
        return Labelled(image=picture.image, boxes=picture.plain(), ignored=ignored, by=by)
    if verdict.decision == "reject":
        return None
    return Labelled(image=picture.image, boxes=verdict.boxes or (), by="reviewer")


def _key(box: Box) -> tuple[str, float, float, float, float]:
    return box.name, box.x1, box.y1, box.x2, box.y2
