"""The right to write about a job, and the test that every worker's write must pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, select
from sqlalchemy.orm import Session

from retort.db.models import Job
from retort.states import ACTIVE, JobState


@dataclass(frozen=True, slots=True)
class Lease:
    """One worker's hold on one job; *fence* tells it from every earlier hold."""

    job_id: str
    attempt: int
    fence: int
    worker: str


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a worker learns when it renews: the latest event's number, and the state the job is wished to be in."""

    last_seq: int
    state: JobState
    finish_early: bool = False


def held(lease: Lease) -> ColumnElement[bool]:
    """True for the job's row as long as nobody else has claimed it and it has not ended or gone back to the queue."""
    return and_(Job.id == lease.job_id, Job.fence == lease.fence, Job.state.in_(ACTIVE))


def lock(session: Session, lease: Lease) -> Row[*tuple[Any, ...]] | None:
    """Keep the job's row from changing until the transaction ends.

    Returns:
        state, finish_early, last_seq and best; None when the lease is no longer held.

    """
    columns = select(Job.state, Job.finish_early, Job.last_seq, Job.best)
    return session.execute(columns.where(held(lease)).with_for_update()).one_or_none()
