"""The order in which waiting jobs are claimed: by priority, then shared fairly between owners, then by age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased

from retort.db.models import Job
from retort.states import ACTIVE, JobState

_WAITING = Job.state == JobState.QUEUED


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that may be claimed now, if nobody is faster."""

    job_id: str
    gpus: int
    """How many it needs."""


def claimable(session: Session, *, now: float, gpus: int | None = None) -> list[Waiting]:
    """Return the oldest job of each owner at the highest priority that has any to claim, in the order to try them.

    The owner with the fewest jobs on workers comes first. Jobs that need more than *gpus*, if given, are left out, as
    are those whose retry has to wait.
    """
    priority = session.scalar(select(func.max(Job.priority)).where(_WAITING))
    while priority is not None:
        heads = _heads(session, priority, now=now, gpus=gpus)
        if heads:
            active = _active(session) if len(heads) > 1 else {}
            heads.sort(key=lambda row: (active.get(row.owner, 0), row.id))
            return [Waiting(row.id, row.gpus) for row in heads]
        priority = session.scalar(select(func.max(Job.priority)).where(_WAITING, Job.priority < priority))
    return []


def may_be_claimed(now: float) -> tuple[Any, ...]:
    """Conditions beside the state: its retry need not wait any more, and it has not waited for too long."""
    return (Job.claimable_at <= now, or_(Job.expires_at.is_(None), Job.expires_at > now))


def _heads(session: Session, priority: int, *, now: float, gpus: int | None) -> list[Any]:
    """Return id, owner and gpus of each owner's oldest claimable job of this priority."""
    owners = _owners(priority)
    fitting = () if gpus is None else (Job.gpus <= gpus,)
    oldest = (
        select(func.min(Job.id))
        .where(_WAITING, Job.priority == priority, Job.owner == owners.c.owner, *may_be_claimed(now), *fitting)
        .scalar_subquery()
    )
    ids = select(oldest.label("id")).where(owners.c.owner.is_not(None)).subquery()
    head = aliased(Job)
    return list(session.execute(select(head.id, head.owner, head.gpus).join(ids, head.id == ids.c.id)))


def _owners(priority: int) -> Any:
    """Name the owners with waiting jobs, hopping from one to the next over the index, however many jobs each has."""
    first = select(func.min(Job.owner).label("owner")).where(_WAITING, Job.priority == priority)
    known = first.cte("owners", recursive=True)
    later = aliased(Job)
    following = select(func.min(later.owner)).where(
        later.state == JobState.QUEUED, later.priority == priority, later.owner > known.c.owner
    )
    return known.union_all(select(following.scalar_subquery()).where(known.c.owner.is_not(None)))


def _active(session: Session) -> dict[str, int]:
    """Return how many jobs each owner has on workers."""
    rows = session.execute(
        select(Job.owner, func.count().label("number")).where(Job.state.in_(ACTIVE)).group_by(Job.owner)
    )
    return {row.owner: row.number for row in rows}
