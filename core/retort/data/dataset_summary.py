"""Define what is found out about a dataset that was brought."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retort.schema import StoredModel


class DatasetFinding(StoredModel):
    """One kind of mistake or doubt, and where it was seen."""

    severity: Literal["error", "warning"]
    """With an error the dataset is refused."""
    code: str
    message: str
    hint: str = ""
    number: int = 1
    """How often."""
    places: tuple[str, ...] = ()
    """The first few."""


class DatasetSplit(StoredModel):
    """Counts of one split."""

    num_images: int
    num_backgrounds: int
    """Images without a box."""
    boxes: tuple[int, ...]
    """Boxes of each class, in the order of the names."""


class DatasetSummary(StoredModel):
    """Classes, counts and findings of a dataset."""

    names: tuple[str, ...] = ()
    """Of the classes, in the order of their ids."""
    splits: dict[str, DatasetSplit] = Field(default_factory=dict)
    findings: tuple[DatasetFinding, ...] = ()
    """Errors first."""
    notes: tuple[str, ...] = ()
    """What was left out or changed."""
    digest: str | None = None
    """Of classes, images and labels, as the results of jobs name it."""

    @property
    def ok(self) -> bool:
        """Whether specs may name it."""
        return all(finding.severity != "error" for finding in self.findings)

    @classmethod
    def refused(cls, code: str, message: str, hint: str | None = None) -> DatasetSummary:
        """Return the summary of a dataset that cannot be looked through."""
        return cls(findings=(DatasetFinding(severity="error", code=code, message=message, hint=hint or ""),))
