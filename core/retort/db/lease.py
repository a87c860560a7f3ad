"""The right to write about a job, and the test that every worker's write must pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, select
from sqlalchemy.orm import Session

from retort.db.models import Job
from retort.db.sql import table
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


_JOBS = table(Job)
HELD: ColumnElement[bool] = and_(
    _JOBS.c.id == bindparam("held_job"), _JOBS.c.fence == bindparam("held_fence"), _JOBS.c.state.in_(ACTIVE)
)
"""True for the job's row as long as nobody else has claimed it and it has not ended or gone back to the queue.

Which lease is meant is said when the statement runs, by ``held_by``.
"""
_LOCK = select(_JOBS.c.state, _JOBS.c.finish_early, _JOBS.c.last_seq, _JOBS.c.best).where(HELD).with_for_update()


def held_by(lease: Lease) -> dict[str, Any]:
    """Return the parameters of ``HELD``."""
    return {"held_job": lease.job_id, "held_fence": lease.fence}


def lock(session: Session, lease: Lease) -> Row[*tuple[Any, ...]] | None:
    """Keep the job's row from changing until the transaction ends.

    Returns:
        state, finish_early, last_seq and best; None when the lease is no longer held.

    """
    return session.connection().execute(_LOCK, held_by(lease)).one_or_none()
