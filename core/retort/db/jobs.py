"""Jobs as workers move them: claimed, renewed, brought to an end or given back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from retort.db import attempts, moves
from retort.db.catalogue import JobNotFound, counts, get, page, standing
from retort.db.control import JobFinished, WrongState, cancel, finish_early, pause, prioritize, resume
from retort.db.lease import Lease, Renewal, held
from retort.db.models import Job
from retort.db.moves import outlook
from retort.db.queue import Waiting, claimable, may_be_claimed
from retort.db.reaping import Reaped, expire, reap, wake
from retort.db.statements import NO_SYNC
from retort.db.submissions import DEFAULT_OWNER, Submission, Submitted, submit, submit_all
from retort.events import Failure
from retort.states import AttemptState, JobState

__all__ = [
    "DEFAULT_OWNER", "JobFinished", "JobNotFound", "Reaped", "Submission", "Submitted", "Waiting", "WrongState",
    "cancel", "claim", "claimable", "counts", "expire", "fail", "finish_early", "get", "hand_back", "mark_cancelled",
    "outlook", "page", "pause", "prioritize", "reap", "renew", "resume", "standing", "submit", "submit_all", "succeed",
    "wake",
]  # fmt: skip


def claim(
    session: Session, job_id: str, *, worker: str, host: str, now: float, lease_s: float, device: str | None = None
) -> Lease | None:
    """Take the job for *worker* until ``now + lease_s``; None when it is not to be claimed (any more)."""
    taken = moves.move(
        session, job_id, JobState.RUNNING, now=now, actor=f"worker:{worker}",
        among={JobState.QUEUED}, where=may_be_claimed(now),
        attempt=Job.attempt + 1, fence=Job.fence + 1, worker=worker, lease_until=now + lease_s, claimed_at=now,
        expires_at=None, stage=None, progress=0.0, eta_s=None, started_at=func.coalesce(Job.started_at, now),
    )  # fmt: skip
    if taken is None:
        return None
    lease = Lease(job_id, taken.attempt, taken.fence, worker)
    attempts.begin(session, lease, host=host, device=device, now=now)
    return lease


def renew(session: Session, lease: Lease, *, now: float, lease_s: float, count: int = 0) -> Renewal | None:
    """Hold the job until ``now + lease_s`` and take *count* event numbers; None when the lease is no longer held."""
    renewed = (
        update(Job)
        .where(held(lease))
        .values(lease_until=now + lease_s, last_seq=Job.last_seq + count)
        .returning(Job.last_seq, Job.state, Job.finish_early)
    )
    row = session.execute(renewed, execution_options=NO_SYNC).one_or_none()
    return row and Renewal(row.last_seq, row.state, finish_early=row.finish_early)


def succeed(session: Session, lease: Lease, *, now: float, result: dict[str, Any], exit_code: int = 0) -> bool:
    """End the job with *result*, whatever was wished meanwhile; False when the lease is no longer held."""
    return moves.end(
        session, lease, JobState.SUCCEEDED, now=now, exit_code=exit_code, result=result, progress=1.0, recovery=None
    )  # fmt: skip


def fail(session: Session, lease: Lease, *, now: float, failure: Failure, exit_code: int | None) -> JobState | None:
    """Close an attempt that failed, and try the job again where that may help and its budget allows.

    Returns:
        QUEUED when it is tried again, PAUSED or CANCELLED when that was wished, else FAILED; None when the lease is
        not held.

    """
    actor = f"worker:{lease.worker}"
    return moves.give_up(
        session, lease, AttemptState.FAILED, now=now, actor=actor, failure=failure, exit_code=exit_code
    )  # fmt: skip


def mark_cancelled(session: Session, lease: Lease, *, now: float, exit_code: int | None) -> bool:
    """End a job whose run has stopped because it was cancelled; False when it was not, or the lease is not held."""
    return moves.end(session, lease, JobState.CANCELLED, now=now, exit_code=exit_code)


def hand_back(session: Session, lease: Lease, *, now: float) -> JobState | None:
    """Return the job of a worker that drains, or that was told to pause, without using up a retry.

    Returns:
        QUEUED, or PAUSED or CANCELLED when that was wished; None when the lease is not held.

    """
    return moves.give_up(session, lease, AttemptState.HANDED_BACK, now=now, actor=f"worker:{lease.worker}")
