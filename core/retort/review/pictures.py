"""Pictures with the boxes that a teacher has found on them, as files hold them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from retort.review.boxes import Box, Scored
from retort.review.figures import LabelFigures, ReviewFigures
from retort.variants import Frozen

IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$"
"""Names of images: they are files, parts of addresses, and keys in a database."""
ImageName = Annotated[str, Field(pattern=IMAGE)]

PICTURES = "review/"
"""Where copies of the images lie for people to look at."""
LABELS = "pseudo-labels.json"
REVIEW = "review.json"
REVIEWED = "pseudo-labels-reviewed.json"


class Picture(Frozen):
    """One image and what the teacher has found on it."""

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
    """A training label where the teacher sees nothing of its class."""

    instead: str | None
    """What the teacher is certain to see there."""


class Suspect(Frozen):
    """A training image whose labels the teacher does not agree with."""

    image: str
    missing: tuple[Scored, ...]
    """What the teacher is certain to see where there is no label."""
    doubtful: tuple[Doubt, ...]
    duplicate: tuple[Box, ...]
    """Labels that lie on an earlier one of the same class."""


class PseudoLabels(Frozen):
    """All that the teacher has found, and how good it seems to be."""

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    suspects: tuple[Suspect, ...] = ()
    """Training images, where the spec wants these to be looked at."""
    figures: LabelFigures


class Proposals(Frozen):
    """What people are asked to look at; widths and heights are those of the pictures that were published for them."""

    mode: Literal["sample", "all"]
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]


class Labelled(Frozen):
    """A picture as it is trained on."""

    image: ImageName
    boxes: tuple[Box, ...]
    ignored: tuple[Box, ...] = ()
    """Neither labels nor background."""
    by: Literal["teacher", "reviewer"]


class Reviewed(Frozen):
    """What is trained on once people have looked at it, and what they said of the teacher."""

    classes: tuple[str, ...]
    pictures: tuple[Labelled, ...]
    figures: ReviewFigures
