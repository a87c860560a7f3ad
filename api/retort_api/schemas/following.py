"""What happened to a job: events and curves."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from retort.db.metrics import Series as SeriesRow
from retort.db.models import EventRow

from retort_api.schemas.base import Out


class Event(Out):
    """One thing that happened to a job."""

    seq: int
    """Counts from 1 without gaps."""
    type: str
    """state, stage, progress, metric, checkpoint, artifact, log, health, finished, failed, stopped or
    awaiting_review."""
    level: str | None
    message: str | None
    data: dict[str, Any]
    attempt: int
    at: datetime

    @classmethod
    def of(cls, row: EventRow) -> Event:
        """Return the row as it is shown."""
        return cls.model_validate(row)


class EventPage(Out):
    """Events in order."""

    data: tuple[Event, ...]
    next_after: int
    """What to send as ``after`` next time."""
    has_more: bool


class Point(Out):
    """One value of a metric; null where it was not finite."""

    step: int
    value: float | None
    at: datetime


class Series(Out):
    """One role's metric over the steps."""

    role: str
    name: str
    points: tuple[Point, ...]

    @classmethod
    def of(cls, series: SeriesRow) -> Series:
        """Return the curve as it is shown."""
        return cls.model_validate(series)


class Metrics(Out):
    """A job's curves."""

    data: tuple[Series, ...]
