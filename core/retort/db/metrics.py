"""The points of a job's curves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

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


class SeriesName(NamedTuple):
    """Whose metric it is, and which."""

    role: str
    name: str


@dataclass(frozen=True, slots=True)
class SeriesExtent:
    """How many points a curve has, and over which steps."""

    series: SeriesName
    number: int
    first: int
    last: int


def extents(session: Session, job_id: str) -> list[SeriesExtent]:
    """Return the extent of each of the job's curves, by role and name."""
    columns = table(MetricRow).c
    reach = (func.count().label("number"), func.min(columns.step).label("first"), func.max(columns.step).label("last"))
    curve = (columns.role, columns.name)
    query = select(*curve, *reach).where(columns.job_id == job_id).group_by(*curve).order_by(*curve)
    rows = session.connection().execute(query)
    return [SeriesExtent(SeriesName(row.role, row.name), row.number, row.first, row.last) for row in rows]


def last_step(session: Session, job_id: str, series: SeriesName) -> int | None:
    """Return the last step at which a metric was measured, or None."""
    columns = table(MetricRow).c
    chosen = (columns.job_id == job_id, columns.role == series.role, columns.name == series.name)
    found: int | None = session.connection().execute(select(func.max(columns.step)).where(*chosen)).scalar()
    return found


def at_steps(
    session: Session, job_id: str, wanted: Collection[SeriesName], steps: Collection[int]
) -> dict[SeriesName, dict[int, MetricPoint]]:
    """Return the points of the *wanted* curves at *steps*, as last measured."""
    columns = table(MetricRow).c
    shown = (columns.role, columns.name, columns.step, columns.value, columns.at, columns.attempt)
    found: dict[SeriesName, dict[int, MetricPoint]] = {series: {} for series in wanted}
    for role, names in _by_role(wanted).items():
        chosen = (columns.job_id == job_id, columns.role == role, columns.name.in_(names), columns.step.in_(steps))
        query = select(*shown).where(*chosen).order_by(columns.name, columns.step, columns.attempt)
        for row in session.connection().execute(query):
            found[SeriesName(row.role, row.name)][row.step] = MetricPoint(row.step, row.value, row.at, row.attempt)
    return found


def thinned(
    session: Session, job_id: str, wanted: Sequence[SeriesExtent], *, most: int, attempts: int = 1
) -> dict[SeriesName, tuple[MetricPoint, ...]]:
    """Return the *wanted* curves with at most *most* points each.

    Every curve keeps its lowest and highest value: the steps are divided into stretches, of each of which these stand
    at its first and last step. A curve of fewer points comes as it is. *attempts* is the number of the job's latest
    attempt: where it is not the first, steps that were measured again are looked for.
    """
    few = [one for one in wanted if one.number <= most]
    many = [one for one in wanted if one.number > most]
    found = {series: tuple(points) for series, points in _whole(session, job_id, few).items()}
    for one in many:
        found[one.series] = _stretches(session, job_id, one, most, again=attempts > 1)
    return found


def _by_role(wanted: Collection[SeriesName]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for role, name in wanted:
        found.setdefault(role, []).append(name)
    return found


def _whole(session: Session, job_id: str, wanted: Sequence[SeriesExtent]) -> dict[SeriesName, list[MetricPoint]]:
    columns = table(MetricRow).c
    shown = (columns.role, columns.name, columns.step, columns.value, columns.at, columns.attempt)
    found: dict[SeriesName, dict[int, MetricPoint]] = {one.series: {} for one in wanted}
    for role, names in _by_role([one.series for one in wanted]).items():
        chosen = (columns.job_id == job_id, columns.role == role, columns.name.in_(names))
        query = select(*shown).where(*chosen).order_by(columns.name, columns.step, columns.attempt)
        for row in session.connection().execute(query):
            found[SeriesName(row.role, row.name)][row.step] = MetricPoint(row.step, row.value, row.at, row.attempt)
    return {series: list(points.values()) for series, points in found.items()}


def _stretches(session: Session, job_id: str, one: SeriesExtent, most: int, *, again: bool) -> tuple[MetricPoint, ...]:
    """Aggregate one long curve in the database, so that its points never come here."""
    columns = table(MetricRow).c
    number = max(1, most // 2)
    chosen = (columns.job_id == job_id, columns.role == one.series.role, columns.name == one.series.name)
    shown = (columns.step, columns.value, columns.at, columns.attempt)
    points: Any = select(*shown).where(*chosen).subquery()
    if again:
        following = func.lead(columns.step).over(order_by=(columns.step, columns.attempt)).label("following")
        all_ = select(*shown, following).where(*chosen).subquery()
        latest = or_(all_.c.following.is_(None), all_.c.following != all_.c.step)
        points = select(*(all_.c[column.name] for column in shown)).where(latest).subquery()
    at = points.c
    stretch = (((at.step - one.first) * number) // (one.last - one.first + 1)).label("stretch")
    said = [
        reduce_(column).label(f"{name}_{column.name}")
        for name, reduce_ in (("first", func.min), ("last", func.max))
        for column in (at.step, at.value, at.at)
    ]
    grouped = select(stretch, *said, func.max(at.attempt).label("attempt")).group_by(stretch).order_by(stretch)
    found: list[MetricPoint] = []
    for row in session.connection().execute(grouped):
        found.append(MetricPoint(row.first_step, row.first_value, row.first_at, row.attempt))
        if row.last_step != row.first_step:
            found.append(MetricPoint(row.last_step, row.last_value, row.last_at, row.attempt))
    return tuple(found)


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
