"""The order in which waiting jobs are claimed: by priority, then shared fairly between owners, then by age."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import Select, bindparam, func, or_, select
from sqlalchemy.orm import Session

from retort.db.models import Job
from retort.db.statements import table
from retort.states import ACTIVE, JobState

# Statements are built once: that takes several times as long as running them.
_JOBS = table(Job).c
_WAITING = _JOBS.state == JobState.QUEUED
_OF_PRIORITY = (_WAITING, _JOBS.priority == bindparam("priority"))
_HIGHEST = select(func.max(_JOBS.priority)).where(_WAITING)
_NEXT_HIGHEST = _HIGHEST.where(_JOBS.priority < bindparam("priority"))
_ACTIVE = select(_JOBS.owner, func.count().label("number")).where(_JOBS.state.in_(ACTIVE)).group_by(_JOBS.owner)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that may be claimed now, if nobody is faster."""

    job_id: str
    gpus: int
    """How many it needs."""


def claimable(session: Session, *, now: float, gpus: int | None = None, number: int = 1) -> list[Waiting]:
    """Return the oldest jobs of each owner at the highest priority that has any to claim, in the order to try them.

    The owner with the fewest jobs on workers comes first, those counted that would have been claimed by then. Jobs that
    need more than *gpus*, if given, are left out, as are those whose retry has to wait.

    Args:
        session: any.
        now: by the database's clock.
        gpus: how many a job may need.
        number: how many jobs are wanted; there are fewer when no more wait at that priority, and more where there are
            more owners.

    """
    about = {"now": now, "gpus": gpus}
    priority = session.scalar(_HIGHEST)
    while priority is not None:
        heads = session.execute(_heads(fitting=gpus is not None), {**about, "priority": priority}).all()
        if heads:
            return _dealt(session, heads, {**about, "priority": priority, "number": number})
        priority = session.scalar(_NEXT_HIGHEST, {"priority": priority})
    return []


def may_be_claimed(now: Any) -> tuple[Any, ...]:
    """Conditions beside the state: its retry need not wait any more, and it has not waited for too long."""
    return (_JOBS.claimable_at <= now, or_(_JOBS.expires_at.is_(None), _JOBS.expires_at > now))


def _dealt(session: Session, heads: Sequence[Any], about: Mapping[str, Any]) -> list[Waiting]:
    """Deal the owners' jobs: the next one is always of the owner who would have the fewest on workers."""
    active = {row.owner: row.number for row in session.execute(_ACTIVE)} if len(heads) > 1 else {}
    lines = [iter([head]) for head in heads]
    if len(heads) < about["number"]:
        oldest = _oldest(fitting=about["gpus"] is not None)
        lines = [iter(session.execute(oldest, {**about, "owner": head.owner}).all()) for head in heads]
    turns = [(active.get(row.owner, 0), row.id, row, line) for line in lines for row in islice(line, 1)]
    heapq.heapify(turns)
    dealt = []
    while turns:
        share, _, row, line = turns[0]
        dealt.append(Waiting(row.id, row.gpus))
        following = next(line, None)
        if following is None:
            heapq.heappop(turns)
        else:
            heapq.heapreplace(turns, (share + 1, following.id, following, line))
    return dealt


@cache
def _oldest(*, fitting: bool) -> Select[Any]:
    """Select the oldest claimable jobs of one owner and priority; where *fitting*, that need at most so many GPUs."""
    query = select(_JOBS.id, _JOBS.owner, _JOBS.gpus).where(*_line(bindparam("owner"), fitting=fitting))
    return query.order_by(_JOBS.id).limit(bindparam("number"))


@cache
def _heads(*, fitting: bool) -> Select[Any]:
    """Select each owner's oldest claimable job of one priority; where *fitting*, that needs at most so many GPUs."""
    owners, head = _owners(), table(Job).alias("head").c
    oldest = select(func.min(_JOBS.id)).where(*_line(owners.c.owner, fitting=fitting)).scalar_subquery()
    ids = select(oldest.label("id")).where(owners.c.owner.is_not(None)).subquery()
    return select(head.id, head.owner, head.gpus).join(ids, head.id == ids.c.id)


def _line(owner: Any, *, fitting: bool) -> tuple[Any, ...]:
    """Return the conditions of the jobs in one owner's line."""
    fits = (_JOBS.gpus <= bindparam("gpus"),) if fitting else ()
    return (*_OF_PRIORITY, _JOBS.owner == owner, *may_be_claimed(bindparam("now")), *fits)


def _owners() -> Any:
    """Name the owners with waiting jobs, hopping from one to the next over the index, however many jobs each has."""
    first = select(func.min(_JOBS.owner).label("owner")).where(*_OF_PRIORITY)
    known = first.cte("owners", recursive=True)
    following = select(func.min(_JOBS.owner)).where(*_OF_PRIORITY, _JOBS.owner > known.c.owner).scalar_subquery()
    return known.union_all(select(following).where(known.c.owner.is_not(None)))
