"""The points of a job's curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from retort.db.models import Metric
from retort.db.statements import add_or_replace
from retort.events import MetricEvent

_KEY = ("job_id", "role", "name", "step", "attempt")


@dataclass(frozen=True, slots=True)
class Point:
    """One value; null where it was not finite."""

    step: int
    value: float | None
    at: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: the points of one role's metric, by step."""

    role: str
    name: str
    points: tuple[Point, ...]


def series(
    session: Session,
    job_id: str,
    *,
    role: str | None = None,
    name: str | None = None,
    after_step: int | None = None,
    limit: int = 10_000,
) -> list[Series]:
    """Return the job's curves by role and name, each with at most *limit* points after *after_step*.

    Where several attempts measured the same step, the latest attempt's value counts.
    """
    later = aliased(Metric)
    same_point = [getattr(later, column) == getattr(Metric, column) for column in _KEY[:-1]]
    overtaken = select(later.job_id).where(*same_point, later.attempt > Metric.attempt).exists()
    rank = func.row_number().over(partition_by=(Metric.role, Metric.name), order_by=Metric.step).label("rank")
    points = select(Metric.role, Metric.name, Metric.step, Metric.value, Metric.at, Metric.attempt, rank)
    points = points.where(Metric.job_id == job_id, ~overtaken)
    for column, wanted in ((Metric.role, role), (Metric.name, name)):
        points = points if wanted is None else points.where(column == wanted)
    if after_step is not None:
        points = points.where(Metric.step > after_step)
    ranked = points.subquery()
    first = select(ranked).where(ranked.c.rank <= limit).order_by(ranked.c.role, ranked.c.name, ranked.c.step)
    rows = session.execute(first)
    return [
        Series(key[0], key[1], tuple(Point(row.step, row.value, row.at, row.attempt) for row in group))
        for key, group in groupby(rows, key=lambda row: (row.role, row.name))
    ]


def add_points(session: Session, job_id: str, attempt: int, events: Sequence[MetricEvent]) -> None:
    """Insert the events' values; a step measured twice by one attempt keeps the later value."""
    rows = {
        (event.role, name, event.step): {
            "job_id": job_id,
            "role": event.role.value,
            "name": name,
            "step": event.step,
            "attempt": attempt,
            "value": value,
            "at": event.at,
        }
        for event in events
        for name, value in event.values.items()
    }
    add_or_replace(session, Metric, list(rows.values()), key=_KEY, keep=())
