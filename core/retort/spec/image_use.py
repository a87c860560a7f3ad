"""Count the images of a split, used and unused."""

from __future__ import annotations

from pydantic import Field

from retort.schema import StoredModel

MOST_NAMED = 20
"""Unused images that are named; the others are counted."""
_IN_A_SENTENCE = 5


class UnusedImage(StoredModel):
    """An image that is there and cannot be used."""

    file: str
    """Its path in the data set."""
    problem: str
    """Why, such as ``is cut off (truncated)``."""


class ImageUse(StoredModel):
    """How many images of a split are there, and how many are used."""

    num_found: int
    """Files with the ending of an image that is read."""
    num_used: int
    """Those that could be opened to their end, and are large enough."""
    unused: tuple[UnusedImage, ...] = ()
    """The first of the others."""
    unread: dict[str, int] = Field(default_factory=dict)
    """Pictures with endings that are not read, by ending."""
    num_sequences: int = 0
    """Images of several frames or pages, of which the first is used."""

    @property
    def num_unused(self) -> int:
        """Number of images that are there and cannot be used."""
        return self.num_found - self.num_used

    def sentence(self, split: str) -> str:
        """Say what is used of *split*, and what is not."""
        said = f"{split}: used {self.num_used:,} of {self.num_found:,} images"
        if self.num_unused:
            named = [f"{one.file} {one.problem}" for one in self.unused[:_IN_A_SENTENCE]]
            more = self.num_unused - len(named)
            names = ", ".join(named) + (f" and {more:,} more" if more else "")
            said += f", {self.num_unused:,} could not be read: {names}"
        if self.unread:
            counted = ", ".join(f"{number:,} {ending}" for ending, number in sorted(self.unread.items()))
            said += f"; pictures of other kinds are not read: {counted}"
        if self.num_sequences:
            said += f"; of {self.num_sequences:,} with several frames or pages the first is used"
        return said
