"""Boxes as shares of an image's sides, and which of them mean the same object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from retort.variants import Frozen, mistake

DIGITS = 6
"""Decimals of a coordinate: what is finer is less than a pixel of any image, and lost by other tools."""
MATCH_IOU = 0.5
"""Two boxes of one class that overlap so much mean the same object."""

Share = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda value: round(value, DIGITS))]
Corners = tuple[float, float, float, float]
"""``x1, y1, x2, y2``, in any unit."""


class Box(Frozen):
    """A labelled object: the name of its class, and its corners as shares of the image's sides."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    x1: Share
    y1: Share
    x2: Share
    y2: Share

    @model_validator(mode="after")
    def _has_area(self) -> Self:
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise mistake("the box has no area", hint="x1 lies left of x2, and y1 above y2")
        return self

    @property
    def corners(self) -> Corners:
        """The corners alone."""
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
    """Return the area that both boxes cover over the area that either does."""
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
    """Pair each box of *found*, in that order, with the one of *expected* that it overlaps most, each at most once."""
    left = list(expected)
    pairs: list[tuple[First, Second | None]] = []
    for box in found:
        overlaps = [(iou(box, other), -index) for index, other in enumerate(left) if other.name == box.name]
        best = max(overlaps, default=(0.0, 0))
        pairs.append((box, left.pop(-best[1]) if best[0] >= MATCH_IOU else None))
    return pairs
