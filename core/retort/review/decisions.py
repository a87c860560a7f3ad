"""What people decide about pictures, and what then is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from retort.errors import UserError
from retort.review.boxes import Box
from retort.review.pictures import ImageName, Labelled, Picture, Proposals
from retort.variants import Frozen, mistake

REVIEWER = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$"
SOMEBODY = "somebody"
MOST_BOXES = 2000
"""On one picture."""
Verdict = Literal["accept", "reject", "edit"]


class ReviewError(UserError):
    """What came as a review cannot be used."""

    code = "bad_review"


class Ruling(Frozen):
    """Accept the teacher's boxes on a picture, leave the picture out, or put other boxes on it."""

    decision: Verdict
    boxes: Annotated[tuple[Box, ...], Field(max_length=MOST_BOXES)] | None = None
    """With ``edit``: all that there is on the picture; none are background."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.decision == "edit" and self.boxes is None:
            raise mistake("edit needs the boxes", at="boxes", hint="all boxes of the picture; [] where there is none")
        if self.decision != "edit" and self.boxes is not None:
            raise mistake("boxes belong to edit only", at="boxes", hint="leave them out, or decide edit")
        return self


class Decision(Ruling):
    """Who has ruled what about which picture, and when."""

    image: ImageName
    reviewer: Annotated[str, Field(pattern=REVIEWER)] = SOMEBODY
    at: float
    """Unix time in seconds."""
    seen: bool = True
    """Whether the picture was looked at; not, where it was only said what becomes of the rest."""


class Decisions(Frozen):
    """All decisions about one job, as its run reads them."""

    decisions: tuple[Decision, ...]

    @classmethod
    def load(cls, path: Path) -> Mapping[str, Decision]:
        """Read the file at *path*, if there is one; later decisions about an image replace earlier ones.

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


def still_open(proposals: Proposals, decided: Iterable[str]) -> list[str]:
    """Return the pictures that nobody has decided about, in order."""
    known = set(decided)
    return [picture.image for picture in proposals.pictures if picture.image not in known]


def ruled(picture: Picture, boxes: Sequence[Box]) -> Ruling:
    """Return the ruling that puts *boxes* on *picture*: to accept the teacher's, where they are the same."""
    if sorted(map(_key, boxes)) == sorted(map(_key, picture.plain())):
        return Ruling(decision="accept")
    return Ruling(decision="edit", boxes=tuple(boxes))


def settled(picture: Picture, ruling: Ruling | None) -> Labelled | None:
    """Return *picture* as it is trained on; None where it is not.

    Where a person drew the boxes, what was doubtful is decided.
    """
    if ruling is None or ruling.decision == "accept":
        if picture.left_out is not None and not (ruling and picture.left_out == "empty"):
            return None
        ignored = tuple(box.plain() for box in picture.doubtful)
        by: Literal["teacher", "reviewer"] = "reviewer" if ruling else "teacher"
        return Labelled(image=picture.image, boxes=picture.plain(), ignored=ignored, by=by)
    if ruling.decision == "reject":
        return None
    return Labelled(image=picture.image, boxes=ruling.boxes or (), by="reviewer")


def _key(box: Box) -> tuple[str, float, float, float, float]:
    return box.name, box.x1, box.y1, box.x2, box.y2
