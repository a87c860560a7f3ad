"""Define the outcome of an extra, which the student does not need."""

from __future__ import annotations

from typing import Literal

from retort.schema import StoredModel

OutcomeStatus = Literal["done", "failed", "skipped", "timed_out"]


class ExtraOutcome(StoredModel):
    """What became of one extra, and why it is not there."""

    name: str
    """What it is, such as ``control`` or ``report.html``."""
    status: OutcomeStatus
    """``skipped`` was not tried; ``timed_out`` took longer than it may."""
    code: str | None = None
    """Of the failure, as a failed job has it; null where it is done."""
    reason: str | None = None
    """The same in words."""
    hint: str | None = None
    """What to do about it."""
    duration_s: float = 0.0
    """For which it was tried."""

    @property
    def sentence(self) -> str:
        """The outcome in one line for people."""
        why = f": {self.reason}" if self.reason else ""
        code = f" [{self.code}]" if self.code else ""
        return f"{self.name} {self.status.replace('_', ' ')}{why}{code}"


def missing(outcomes: tuple[ExtraOutcome, ...]) -> tuple[ExtraOutcome, ...]:
    """Return the outcomes of the extras that are not there."""
    return tuple(one for one in outcomes if one.status != "done")
