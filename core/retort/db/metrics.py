"""The points of a job's curves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from sqlalchemy import Select, bindparam, func, or_, select
from sqlalchemy.orm import Session

from retort.db.models import MetricRow
from retort.db.session import table


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value; null where it was not finite."""

    step: int
    value: float | None
    at: float
    attempt: int


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """One curve: the points of one role's metric, by step."""

    role: str
    name: str
    points: tuple[MetricPoint, ...]


def series(
    session: Session,
    job_id: str,
    *,
    role: str | None = None,
    name: str | None = None,
    after_step: int | None = None,
    limit: int = 10_000,
) -> list[MetricSeries]:
    """Return the job's curves by role and name.

    Each has at most *limit* points after *after_step*. Where several attempts measured the same step, the latest
    attempt's value counts.
    """
    wanted = {"role": role, "name": name, "after_step": after_step}
    given = frozenset(column for column, value in wanted.items() if value is not None)
    rows = session.connection().execute(_statement(given), {"job_id": job_id, "limit": limit, **wanted})
    return [
        MetricSeries(key[0], key[1], tuple(MetricPoint(row.step, row.value, row.at, row.attempt) for row in group))
        for key, group in groupby(rows, key=lambda row: (row.role, row.name))
    ]


def curves(session: Session, job_ids: Collection[str], *, role: str, name: str) -> dict[str, dict[int, float]]:
    """Return one metric of each of the jobs by step.

    Values are as the latest attempt has measured them; finite ones only.
    """
    columns = table(MetricRow).c
    wanted = (columns.job_id.in_(job_ids), columns.role == role, columns.name == name, columns.value.is_not(None))
    query = select(columns.job_id, columns.step, columns.value).where(*wanted)
    found: dict[str, dict[int, float]] = {}
    for row in session.connection().execute(query.order_by(columns.job_id, columns.step, columns.attempt)):
        found.setdefault(row.job_id, {})[row.step] = row.value
    return found


@cache
def _statement(given: frozenset[str]) -> Select[Any]:
    """Select the points, in one pass over the job's stretch of the primary key, whatever the planner believes.

    That key goes by role, name, step and attempt, so a point that a later attempt measured anew comes just before that.
    """
    columns = table(MetricRow).c
    where = [columns.job_id == bindparam("job_id")]
    where += [columns[name] == bindparam(name) for name in ("role", "name") if name in given]
    where += [columns.step > bindparam("after_step")] if "after_step" in given else []
    curve = (columns.role, columns.name)
    following = func.lead(columns.step).over(partition_by=curve, order_by=(columns.step, columns.attempt))
    shown = (columns.role, columns.name, columns.step, columns.value, columns.at, columns.attempt)
    points = select(*shown, following.label("following")).where(*where).subquery().c
    latest = or_(points.following.is_(None), points.following != points.step)
    rank = func.row_number().over(partition_by=(points.role, points.name), order_by=points.step).label("rank")
    ranked = select(*(points[column.name] for column in shown), rank).where(latest).subquery()
    first = select(ranked).where(ranked.c.rank <= bindparam("limit"))
    return first.order_by(ranked.c.role, ranked.c.name, ranked.c.step)
