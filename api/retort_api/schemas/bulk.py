"""Actions on many jobs: what is asked for, and the answer for each job."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from retort.states import JobState

from retort_api.labels import LABEL_KEY, LabelValue
from retort_api.schemas.jobs import ResponseModel

MOST = 100
"""Jobs of one request."""


def _written(value: object) -> object:
    """Take a time as it is written, not as a number: that could be seconds or milliseconds."""
    if not isinstance(value, str | datetime) or (isinstance(value, str) and ":" not in value):
        msg = "write a time with its zone, such as 2026-11-28T18:00:00Z"
        raise ValueError(msg)
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_written)]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]


class WantedJobs(BaseModel):
    """Jobs that meet everything that is given, as in the list of jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    state: tuple[JobState, ...] = Field(default=(), max_length=len(JobState))
    name: Text | None = None
    owner: Text | None = None
    labels: dict[Annotated[str, Field(pattern=LABEL_KEY)], LabelValue | None] = Field(
        default_factory=dict, max_length=32
    )
    """Each with its value; null for any."""
    created_after: Time | None = None
    created_before: Time | None = None
    student: Text | None = None
    teacher: Text | None = None
    dataset: Text | None = None
    recipe: Text | None = None
    sweep: Text | None = None
    q: Text | None = None


_EITHER: list[Any] = [
    {"required": [given], "properties": {given: {"not": {"type": "null"}}, other: {"type": "null"}}}
    for given, other in (("ids", "filter"), ("filter", "ids"))
]


class Bulk(BaseModel):
    """One action on several jobs: those named, or the oldest that a filter finds."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"oneOf": _EITHER}
    )

    action: Literal["cancel", "retry", "delete"]
    ids: tuple[Annotated[str, Field(max_length=64)], ...] | None = Field(default=None, min_length=1, max_length=MOST)
    filter: WantedJobs | None = None
    after: Annotated[str, Field(pattern=r"^job_[0-9a-f]{32}$")] | None = None
    """With a filter: `next_after` of the answer before."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            msg = "give either ids or filter"
            raise ValueError(msg)
        return self


class BulkOutcome(ResponseModel):
    """What became of one job."""

    id: str
    done: bool
    state: JobState | None
    """Of the job now; null where nothing was done."""
    new_id: str | None
    """Of the job that a retry has made."""
    code: str | None
    """Why nothing was done: programs decide by this."""
    detail: str | None


class BulkAnswer(ResponseModel):
    """What became of each job, in order."""

    data: tuple[BulkOutcome, ...]
    next_after: str | None
    """Send it as `after` for the jobs that the filter finds beyond these; null where there are none."""
