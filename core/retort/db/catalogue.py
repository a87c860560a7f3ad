"""Jobs as readers look for them: one, a page, how many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select, union_all
from sqlalchemy.orm import Session

from retort.db.models import Job
from retort.db.statements import table
from retort.errors import UserError
from retort.states import JobState

_JOBS = table(Job)
_STANDINGS = select(_JOBS.c.id, _JOBS.c.version, _JOBS.c.state).where(_JOBS.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Standing:
    """Enough to tell whether a job has changed."""

    version: int
    state: JobState


class JobNotFound(UserError):
    """There is no such job."""

    code = "job_not_found"


def get(session: Session, job_id: str) -> Job:
    """Return the job.

    Raises:
        JobNotFound: there is no such job.

    """
    job = session.get(Job, job_id)
    if job is None:
        raise JobNotFound(f"there is no job {job_id}")
    return job


def standings(session: Session, job_ids: Sequence[str]) -> dict[str, Standing]:
    """Return where those of the jobs stand that there are."""
    rows = session.connection().execute(_STANDINGS, {"ids": job_ids})
    return {row.id: Standing(row.version, row.state) for row in rows}


def page(
    session: Session, *, states: Collection[JobState] = (), after: str | None = None, limit: int = 50
) -> list[Job]:
    """Return at most *limit* jobs, newest first, in any of *states* (if given), that are older than the job *after*."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    if after is not None:
        query = query.where(Job.id < after)
    if states:
        # Each state's newest come from one stretch of the index, however many jobs there are.
        ids = query.with_only_columns(Job.id)
        per_state = [select(ids.where(Job.state == state).subquery().c.id) for state in sorted(states)]
        query = query.where(Job.id.in_(union_all(*per_state)))
    return list(session.scalars(query))


def oldest_queued(session: Session) -> Job | None:
    """Return the job that has waited longest since it was submitted."""
    first = select(func.min(Job.id)).where(Job.state == JobState.QUEUED).scalar_subquery()
    return session.scalar(select(Job).where(Job.id == first))


def states(session: Session, job_ids: Collection[str]) -> dict[str, JobState]:
    """Return the states of those of the jobs that there are."""
    rows = session.execute(select(Job.id, Job.state).where(Job.id.in_(job_ids)))
    return {row.id: row.state for row in rows}


def counts(session: Session) -> dict[JobState, int]:
    """Return how many jobs are in each state; every state is there."""
    rows = session.execute(select(Job.state, func.count().label("number")).group_by(Job.state))
    return dict.fromkeys(JobState, 0) | {row.state: row.number for row in rows}
