"""Sweeps as they are shown: alone with their trials, and in lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict
from retort.db.models import SweepRow, SweepTrialRow
from retort.db.sweeps import TrialView
from retort.states import SweepState, TrialState

from retort_api.schemas.jobs import Failure, ResponseModel, documented_as, row_fields


def sweep_path(sweep_id: str) -> str:
    """Return the address of a sweep."""
    return f"/v1/sweeps/{sweep_id}"


class Trial(ResponseModel):
    """One point of a sweep, and what has come of it."""

    number: int
    """Counted from 1 in the order in which they began."""
    state: TrialState
    parameters: dict[str, Any]
    """A value for each parameter of the sweep, by its path into the spec."""
    value: float | None
    """The best that the objective has reached, so far or at the end."""
    job_id: str | None
    """Null where the combination was no valid spec: ``reason`` says why."""
    progress: float | None
    """Of the job, 0 to 1."""
    reason: str | None
    """Why it failed or was pruned."""
    begun_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, listed: TrialView) -> Trial:
        """Return the trial as it is shown."""
        about = {"state": listed.state, "value": listed.value, "progress": listed.progress, "reason": listed.reason}
        return cls.model_validate(row_fields(listed.trial, cls, **about))


class BestTrial(ResponseModel):
    """The best trial that has succeeded."""

    number: int
    value: float
    parameters: dict[str, Any]
    job_id: str

    @classmethod
    def of(cls, row: SweepTrialRow | None) -> BestTrial | None:
        """Return the trial as it is shown, if there is one."""
        return None if row is None else cls.model_validate(row)


class SweepLinks(ResponseModel):
    """Addresses on this service."""

    self: str
    cancel: str
    best: str
    report: str

    @classmethod
    def of(cls, sweep_id: str) -> SweepLinks:
        """Return the links of a sweep."""
        home = sweep_path(sweep_id)
        parts = set(cls.model_fields) - {"self"}
        return cls.model_validate({"self": home, **{part: f"{home}/{part}" for part in parts}})


class SweepSummary(ResponseModel):
    """Where a sweep stands."""

    id: str
    name: str
    state: SweepState
    strategy: str
    num_trials: int
    """How many there are to be."""
    counts: dict[TrialState, int]
    """Trials that were begun, by state."""
    best: BestTrial | None
    failure: Failure | None
    """Why it gave up."""
    owner: str
    priority: int
    spec_digest: str
    created_at: datetime
    finished_at: datetime | None
    keep: bool
    """Whether it is pinned: retention passes it and its jobs by."""
    deleted_at: datetime | None
    """When it was moved to the trash, and its jobs with it; null outside of it."""
    links: SweepLinks

    @classmethod
    def of(cls, row: SweepRow, counts: Mapping[TrialState, int], best: SweepTrialRow | None, **given: Any) -> Self:
        """Return the row as it is shown."""
        about = {"strategy": row.spec["search"]["strategy"], "counts": counts, "best": BestTrial.of(best)}
        return cls.model_validate(row_fields(row, cls, links=SweepLinks.of(row.id), **about, **given))


class Sweep(SweepSummary):
    """A sweep in full."""

    spec: Annotated[dict[str, Any], documented_as("SweepSpec")]
    """The sweep as it was submitted, defaults written out."""
    trials: tuple[Trial, ...]

    @classmethod
    def whole(cls, row: SweepRow, best: SweepTrialRow | None, listed: Sequence[TrialView]) -> Sweep:
        """Return the row with its trials."""
        counts = dict.fromkeys(TrialState, 0)
        for one in listed:
            counts[one.state] += 1
        return cls.of(row, counts, best, trials=tuple(Trial.of(one) for one in listed))


class SweepChange(BaseModel):
    """What may change about a sweep."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    keep: bool
    """Whether it is pinned: retention passes it and its jobs by."""


class SweepPage(ResponseModel):
    """Sweeps, newest first."""

    data: tuple[SweepSummary, ...]
    next_cursor: str | None
    has_more: bool
