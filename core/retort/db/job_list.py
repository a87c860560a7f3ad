"""List jobs by filters, words and labels, in an order and in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, and_, func, or_, select, tuple_, union_all
from sqlalchemy.orm import Session

from retort.constants import MAP
from retort.db.models import AttemptRow, JobRow
from retort.states import JobState

Order = Literal["created", "finished", "name", "best", "-created", "-finished", "-name", "-best"]
ORDERS: tuple[Order, ...] = get_args(Order)
NEWEST: Order = "-created"
_LAST = 1e300
"""In place of what a job lacks: those without it come last, whichever way the order goes."""
_MOST_TEACHERS = 8
_ESCAPE = "\\"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Filter of jobs; every field that is given narrows the list."""

    states: tuple[JobState, ...] = ()
    name: str | None = None
    owner: str | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    """Each with its value; None for any value."""
    created_from: float | None = None
    created_before: float | None = None
    student: str | None = None
    """Architecture or weights file."""
    teacher: str | None = None
    """Weights file of any of its teachers."""
    dataset: str | None = None
    """Name, reference or folder."""
    recipe: str | None = None
    sweep_id: str | None = None
    text: str | None = None
    """Words that all stand in the name or the labels, whatever their case."""
    deleted: bool = False
    """In the trash, else outside of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the last job, and its value in the order."""

    value: Any
    job_id: str


def searchable(name: str, labels: Mapping[str, str]) -> str:
    """Return the text in which jobs are searched, in lower case."""
    return "\n".join((name, *(f"{key}={value}" for key, value in sorted(labels.items())))).casefold()


def conditions(wanted: JobFilter) -> Iterator[ColumnElement[bool]]:
    """Yield what a job must meet, but for its state."""
    yield JobRow.deleted_at.is_not(None) if wanted.deleted else JobRow.deleted_at.is_(None)
    yield JobRow.purged_at.is_(None)
    equal = {JobRow.name: wanted.name, JobRow.owner: wanted.owner, JobRow.sweep_id: wanted.sweep_id}
    yield from (column == value for column, value in equal.items() if value is not None)
    for key, value in wanted.labels:
        held = JobRow.labels[key].as_string()
        yield held.is_not(None) if value is None else held == value
    if wanted.created_from is not None:
        yield JobRow.created_at >= wanted.created_from
    if wanted.created_before is not None:
        yield JobRow.created_at < wanted.created_before
    yield from _of_spec(wanted)
    for word in (wanted.text or "").casefold().split():
        yield JobRow.search.like(f"%{_literally(word)}%", escape=_ESCAPE)


def _of_spec(wanted: JobFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.student is not None:
        yield or_(_said("student", "model") == wanted.student, _said("student", "weights") == wanted.student)
    if wanted.teacher is not None:
        further = (_said("teacher", "ensemble", place, "weights") for place in range(_MOST_TEACHERS))
        yield or_(*(one == wanted.teacher for one in (_said("teacher", "weights"), *further)))
    if wanted.dataset is not None:
        named = _said("data", "dataset")
        of_name = named.like(f"dataset:{_literally(wanted.dataset)}@%", escape=_ESCAPE)
        yield or_(named == wanted.dataset, of_name, _said("data", "path") == wanted.dataset)
    if wanted.recipe is not None:
        yield _said("distillation", "recipe") == wanted.recipe


def _said(*path: str | int) -> Any:
    return JobRow.spec[path].as_string()


def _literally(text: str) -> str:
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return text


def _key(order: Order) -> Any:
    """Return the value by which jobs are ordered; that of a job which lacks it comes last."""
    lacking = -_LAST if order.startswith("-") else _LAST
    return {
        "created": JobRow.id,
        "name": JobRow.name,
        "finished": func.coalesce(JobRow.finished_at, lacking),
        "best": func.coalesce(JobRow.best[MAP].as_float(), lacking),
    }[order.removeprefix("-")]


def page(
    session: Session,
    wanted: JobFilter | None = None,
    *,
    order: Order = NEWEST,
    after: Place | None = None,
    limit: int = 50,
) -> list[JobRow]:
    """Return at most *limit* of the jobs that are *wanted*, in *order*.

    The page begins behind the place *after*. A job whose value changes between two pages may be seen twice or not at
    all; in the order of their making none is.
    """
    wanted = wanted or JobFilter()
    key, falls = _key(order), order.startswith("-")
    query = select(JobRow).where(*conditions(wanted)).limit(limit)
    query = query.order_by(*((key.desc(), JobRow.id.desc()) if falls else (key, JobRow.id)))
    if after is not None:
        query = query.where(_behind(key, after, falls=falls))
    if wanted.states:
        # Each state's first come from one stretch of the index, however many jobs there are.
        ids = query.with_only_columns(JobRow.id)
        per_state = [select(ids.where(JobRow.state == state).subquery().c.id) for state in sorted(wanted.states)]
        query = query.where(JobRow.id.in_(union_all(*per_state)))
    return list(session.scalars(query))


def counts(session: Session, wanted: JobFilter) -> dict[JobState, int]:
    """Return the number of *wanted* jobs in each state, of all states."""
    query = select(JobRow.state, func.count().label("number")).where(*conditions(wanted)).group_by(JobRow.state)
    return {row.state: row.number for row in session.execute(query)}


def latest_attempts(session: Session, jobs: Sequence[JobRow]) -> dict[str, AttemptRow]:
    """Return the latest attempt of each of the jobs that has begun one."""
    begun = [(job.id, job.attempt) for job in jobs if job.attempt]
    query = select(AttemptRow).where(tuple_(AttemptRow.job_id, AttemptRow.number).in_(begun))
    return {row.job_id: row for row in session.scalars(query)} if begun else {}


def place(job: JobRow, order: Order) -> Place:
    """Return the place of *job* in *order*, behind which the next page begins."""
    lacking = -_LAST if order.startswith("-") else _LAST
    best = None if job.best is None else job.best.get(MAP)
    value = {"created": job.id, "name": job.name, "finished": job.finished_at, "best": best}[order.removeprefix("-")]
    return Place(lacking if value is None else value, job.id)


def _behind(key: Any, after: Place, *, falls: bool) -> ColumnElement[bool]:
    later = JobRow.id < after.job_id if falls else JobRow.id > after.job_id
    if key is JobRow.id:
        return later
    further: ColumnElement[bool] = key < after.value if falls else key > after.value
    equal: ColumnElement[bool] = key == after.value
    return or_(further, and_(equal, later))
