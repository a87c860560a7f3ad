"""Jobs as workers move them: claimed, renewed, brought to an end or given back."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from retort.db import moves
from retort.db.catalogue import JobNotFound, Standing, counts, get, page, standings
from retort.db.claims import Claim, claim, claim_all
from retort.db.control import JobFinished, WrongState, cancel, finish_early, pause, prioritize, resume
from retort.db.lease import HELD, Lease, Renewal, held_by
from retort.db.models import Job
from retort.db.moves import outlook
from retort.db.queue import Waiting, claimable
from retort.db.reaping import Reaped, expire, reap, wake
from retort.db.statements import table
from retort.db.submissions import DEFAULT_OWNER, Submission, Submitted, submit, submit_all
from retort.events import Failure
from retort.spec.result import Result
from retort.states import AttemptState, JobState

__all__ = [
    "DEFAULT_OWNER", "Claim", "JobFinished", "JobNotFound", "Reaped", "Standing", "Submission", "Submitted",
    "Waiting", "WrongState", "await_review", "cancel", "claim", "claim_all", "claimable", "counts", "expire",
    "fail", "finish_early", "get", "hand_back", "mark_cancelled", "outlook", "page", "pause", "prioritize", "reap",
    "renew", "resume", "standings", "submit", "submit_all", "succeed", "wake",
]  # fmt: skip

_JOBS = table(Job)
_WISHES = (_JOBS.c.last_seq, _JOBS.c.state, _JOBS.c.finish_early)


def renew(session: Session, lease: Lease, *, now: float, lease_s: float, count: int = 0) -> Renewal | None:
    """Hold the job until ``now + lease_s`` and take *count* event numbers; None when the lease is no longer held."""
    changed = {"lease_until": now + lease_s, "last_seq": _JOBS.c.last_seq + count}
    renewed = update(_JOBS).where(HELD).values(**changed).returning(*_WISHES)
    row = session.connection().execute(renewed, held_by(lease)).one_or_none()
    return None if row is None else Renewal(row.last_seq, row.state, finish_early=row.finish_early)


def succeed(session: Session, lease: Lease, *, now: float, result: Result, exit_code: int = 0) -> bool:
    """End the job with *result*, whatever was wished meanwhile; False when the lease is no longer held."""
    return moves.end(
        session, lease, JobState.SUCCEEDED, now=now, exit_code=exit_code, progress=1.0, recovery=None,
        result=result.model_dump(mode="json"),
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


def await_review(session: Session, lease: Lease, *, now: float, exit_code: int | None) -> JobState | None:
    """Let the job of a run that waits for people rest without a worker, and without using up a retry.

    Returns:
        AWAITING_REVIEW, or PAUSED or CANCELLED when that was wished; None when the lease is not held.

    """
    return moves.give_up(
        session, lease, AttemptState.HANDED_BACK, now=now, actor=f"worker:{lease.worker}", exit_code=exit_code,
        resting=JobState.AWAITING_REVIEW,
    )  # fmt: skip
