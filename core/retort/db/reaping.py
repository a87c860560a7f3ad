"""What time does to jobs: workers that stopped renewing lose theirs, and what waited for too long expires."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from retort.db import moves
from retort.db.lease import Lease
from retort.db.models import Job
from retort.events import Failure
from retort.states import ACTIVE, AttemptState, JobState


@dataclass(frozen=True, slots=True)
class Reaped:
    """A job that was moved, and the state it went to."""

    job_id: str
    state: JobState


def reap(session: Session, *, now: float, limit: int = 100) -> list[Reaped]:
    """Take at most *limit* jobs from workers whose leases ran out before *now*; call again until none is left."""
    columns = select(Job.id, Job.attempt, Job.fence, Job.worker, Job.lease_until)
    query = columns.where(Job.state.in_(ACTIVE), Job.lease_until < now).order_by(Job.id).limit(limit)
    # A row that is locked is being renewed, ended or reaped at this moment.
    lost = session.execute(query.with_for_update(skip_locked=True)).all()
    reaped = []
    for job_id, attempt, fence, worker, lease_until in lost:
        assert worker is not None, "active jobs have a worker"
        failure = Failure(
            code="lost_worker",
            message=f"the worker {worker} stopped renewing its lease",
            hint="look for what ended the worker or cut it off from the database; the job need not change",
            retryable=True,
        )
        state = moves.give_up(
            session, Lease(job_id, attempt, fence, worker), AttemptState.LOST,
            now=now, actor="reaper", failure=failure, alive_until=lease_until,
        )  # fmt: skip
        assert state is not None, "the row is locked"
        reaped.append(Reaped(job_id, state))
    return reaped


def wake(session: Session, *, idle_s: float) -> int:
    """End transactions whose clients fell asleep *idle_s* ago, in mid-statement too; return how many.

    They hold their jobs' rows, which ``reap`` must skip. PostgreSQL's own timeout for idle transactions counts a client
    that stopped in the middle of a message as active, and (seen in 15) forgets one whose last statements were
    pipelined, as those of an executemany are. On SQLite nothing can be done about such a client.
    """
    if session.get_bind().dialect.name != "postgresql":
        return 0
    return sum(session.execute(_END_SLEEPERS, {"idle_s": idle_s}).scalars())


_END_SLEEPERS = text(
    "SELECT pg_terminate_backend(pid)::int FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND pid <> pg_backend_pid() AND wait_event = 'ClientRead' AND state <> 'idle' "
    "AND state_change < clock_timestamp() - make_interval(secs => :idle_s)"
)


def expire(session: Session, *, now: float, limit: int = 100) -> list[Reaped]:
    """Give up at most *limit* jobs that have waited longer than their specs allow; call again until none is left."""
    late = select(Job.id).where(Job.expires_at <= now, Job.state == JobState.QUEUED).order_by(Job.expires_at)
    ids = session.scalars(late.limit(limit).with_for_update(skip_locked=True)).all()
    failure = Failure(
        code="expired",
        message="no worker took the job within resources.max_queue_s",
        hint="start more workers, or allow more time; POST …/retry queues it again",
    )
    for job_id in ids:
        changed = moves.move(
            session, job_id, JobState.EXPIRED, now=now, actor="reaper", reason="max_queue_s",
            expires_at=None, finished_at=now, failure=failure.model_dump(mode="json"),
        )  # fmt: skip
        assert changed is not None, "the row is locked"
    return [Reaped(job_id, JobState.EXPIRED) for job_id in ids]
