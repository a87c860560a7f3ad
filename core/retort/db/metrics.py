"""The points of a job's curves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Select, Subquery, bindparam, case, func, or_, select
from sqlalchemy.orm import Session

from retort.constants import Role
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
    """Over which steps a curve has points."""

    series: SeriesName
    first: int
    last: int


def extents(session: Session, job_id: str) -> list[SeriesExtent]:
    """Return the extent of each of the job's curves, by role and name.

    The primary key is searched once a curve, so that the cost grows with their number, not with that of their points.
    """
    rows = session.connection().execute(_extents(), {"job_id": job_id})
    return [SeriesExtent(SeriesName(row.role, row.name), row.first, row.last) for row in rows]


@cache
def _extents() -> Select[Any]:
    columns = table(MetricRow).c
    of_job = columns.job_id == bindparam("job_id")

    def found(reduced: Any, *where: Any) -> Any:
        return select(reduced).where(of_job, *where).scalar_subquery()

    roles = select(found(func.min(columns.role)).label("role")).cte("curve_roles", recursive=True)
    following = found(func.min(columns.role), columns.role > roles.c.role)
    roles = roles.union_all(select(following).where(roles.c.role.is_not(None)))
    name = found(func.min(columns.name), columns.role == roles.c.role)
    first = select(roles.c.role, name.label("name")).where(roles.c.role.is_not(None))
    curves = first.cte("curve_names", recursive=True)
    following = found(func.min(columns.name), columns.role == curves.c.role, columns.name > curves.c.name)
    curves = curves.union_all(select(curves.c.role, following).where(curves.c.name.is_not(None)))
    same = (columns.role == curves.c.role, columns.name == curves.c.name)
    reach = (found(reduced(columns.step), *same) for reduced in (func.min, func.max))
    shown = [one.label(label) for one, label in zip(reach, ("first", "last"), strict=True)]
    query = select(curves.c.role, curves.c.name, *shown).where(curves.c.name.is_not(None))
    return query.order_by(curves.c.role, curves.c.name)


def steps_from(session: Session, job_id: str, series: SeriesName, places: Sequence[int]) -> list[int | None]:
    """Return the first measured step from each of the *places* on."""
    return _steps(session, job_id, series, places, back=False)


def steps_until(session: Session, job_id: str, series: SeriesName, places: Sequence[int]) -> list[int | None]:
    """Return the last measured step up to each of the *places*."""
    return _steps(session, job_id, series, places, back=True)


def _steps(
    session: Session, job_id: str, series: SeriesName, places: Sequence[int], *, back: bool
) -> list[int | None]:  # fmt: skip
    columns = table(MetricRow).c
    chosen = (columns.job_id == job_id, columns.role == series.role, columns.name == series.name)
    reduced = func.max(columns.step) if back else func.min(columns.step)
    near = [columns.step <= place if back else columns.step >= place for place in places]
    wanted = [select(reduced).where(*chosen, one).scalar_subquery().label(f"at_{at}") for at, one in enumerate(near)]
    return list(session.connection().execute(select(*wanted)).one()) if wanted else []


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
    """Return the *wanted* curves within their extents, with at most *most* points each.

    A curve of fewer points comes as it is. Of a longer one the last steps come as they are; those before are divided
    into stretches, of each of which the lowest and the highest value stand at its first and last step. *attempts* is
    the number of the job's latest attempt: where it is not the first, steps that were measured again are looked for.
    """
    few = [one for one in wanted if one.last - one.first < most or not _is_long(session, job_id, one, most)]
    short = {one.series for one in few}
    found = {series: tuple(points) for series, points in _whole(session, job_id, few).items()}
    for one in wanted:
        if one.series not in short:
            before, tail = _divided(one, most)
            thin = _stretches(session, _points(job_id, before, again=attempts > 1), before, most)
            found[one.series] = (*thin, *_whole(session, job_id, [tail])[one.series])
    return found


def thinned_share(
    session: Session, job_id: str, student: SeriesExtent, teacher: float, *, most: int, attempts: int = 1
) -> tuple[MetricPoint, ...]:  # fmt: skip
    """Return student less control as a percentage of teacher less control.

    It is thinned like any curve, and null where the control is as good as the teacher. The steps are those that both
    have within the student's extent.
    """
    again = attempts > 1
    if student.last - student.first < most or not _is_long(session, job_id, student, most):
        return _all(session, _share(job_id, student, teacher, again=again))
    before, tail = _divided(student, most)
    thin = _stretches(session, _share(job_id, before, teacher, again=again), before, most)
    return (*thin, *_all(session, _share(job_id, tail, teacher, again=again)))


def _share(job_id: str, student: SeriesExtent, teacher: float, *, again: bool) -> Subquery:
    """Select the share of the gap by step.

    Both curves come in one pass: a join may compare each point with each.
    """
    columns = table(MetricRow).c
    roles = (Role.STUDENT, Role.CONTROL)
    chosen = [columns.job_id == job_id, columns.role.in_(roles), columns.name == student.series.name]
    chosen.append(columns.step.between(student.first, student.last))
    points = _latest(chosen, again=again, shown=("role", "step", "value", "at", "attempt")).c
    ours, theirs = (func.max(points.value).filter(points.role == role) for role in roles)
    at = func.max(points.at).filter(points.role == Role.STUDENT)
    by_step = select(
        points.step, ours.label("ours"), theirs.label("theirs"), at.label("at"),
        func.max(points.attempt).label("attempt"),
    ).group_by(points.step).subquery().c  # fmt: skip
    share = case((by_step.theirs < teacher, 100.0 * (by_step.ours - by_step.theirs) / (teacher - by_step.theirs)))
    measured = (by_step.ours.is_not(None), by_step.theirs.is_not(None))
    return select(by_step.step, share.label("value"), by_step.at, by_step.attempt).where(*measured).subquery()


def _all(session: Session, points: Subquery) -> tuple[MetricPoint, ...]:
    at = points.c
    rows = session.connection().execute(select(at.step, at.value, at.at, at.attempt).order_by(at.step))
    return tuple(MetricPoint(row.step, row.value, row.at, row.attempt) for row in rows)


def _divided(one: SeriesExtent, most: int) -> tuple[SeriesExtent, SeriesExtent]:
    """Divide a long curve into what is thinned and its last steps, which are not."""
    end = one.last - most // 4
    return replace(one, last=end), replace(one, first=end + 1)


def _is_long(session: Session, job_id: str, one: SeriesExtent, most: int) -> bool:
    """Return whether a curve has more than *most* points; no more of them are looked at."""
    columns = table(MetricRow).c
    query = select(columns.step).where(*_within(job_id, one)).order_by(columns.step).offset(most).limit(1)
    return session.connection().execute(query).scalar() is not None


def _within(job_id: str, one: SeriesExtent) -> tuple[Any, ...]:
    columns = table(MetricRow).c
    curve = (columns.job_id == job_id, columns.role == one.series.role, columns.name == one.series.name)
    return (*curve, columns.step.between(one.first, one.last))


def _by_role(wanted: Collection[SeriesName]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for role, name in wanted:
        found.setdefault(role, []).append(name)
    return found


def _whole(session: Session, job_id: str, wanted: Sequence[SeriesExtent]) -> dict[SeriesName, list[MetricPoint]]:
    """Return the points within extents; curves of one role and extent are read together."""
    columns = table(MetricRow).c
    shown = (columns.role, columns.name, columns.step, columns.value, columns.at, columns.attempt)
    found: dict[SeriesName, dict[int, MetricPoint]] = {one.series: {} for one in wanted}
    for first, last in sorted({(one.first, one.last) for one in wanted}):
        alike = [one.series for one in wanted if (one.first, one.last) == (first, last)]
        for role, names in _by_role(alike).items():
            chosen = (columns.job_id == job_id, columns.role == role, columns.name.in_(names))
            query = select(*shown).where(*chosen, columns.step.between(first, last))
            for row in session.connection().execute(query.order_by(columns.name, columns.step, columns.attempt)):
                found[SeriesName(row.role, row.name)][row.step] = MetricPoint(row.step, row.value, row.at, row.attempt)
    return {series: list(points.values()) for series, points in found.items()}


def _points(job_id: str, one: SeriesExtent, *, again: bool) -> Subquery:
    return _latest(_within(job_id, one), again=again, shown=("step", "value", "at", "attempt"))


def _latest(chosen: Sequence[Any], *, again: bool, shown: Sequence[str]) -> Subquery:
    """Select points; where steps were measured *again*, the latest of each."""
    columns = table(MetricRow).c
    wanted = [columns[name] for name in shown]
    if not again:
        return select(*wanted).where(*chosen).subquery()
    curve = (columns.role, columns.name)
    following = func.lead(columns.step).over(partition_by=curve, order_by=(columns.step, columns.attempt))
    every = select(*wanted, following.label("following")).where(*chosen).subquery().c
    latest = or_(every.following.is_(None), every.following != every.step)
    return select(*(every[name] for name in shown)).where(latest).subquery()


def _stretches(session: Session, points: Subquery, one: SeriesExtent, most: int) -> tuple[MetricPoint, ...]:
    """Aggregate a long curve in the database, so that its points never come here.

    Up to three quarters of the points that are wanted are of stretches, two each.
    """
    at, number = points.c, max(1, (most - most // 4) // 2)
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
