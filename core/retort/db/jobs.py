"""Jobs and the changes of their states, all of which happen here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.orm import Session

from retort.db import attempts, keys, transitions
from retort.db.catalogue import JobNotFound, claimable, counts, get, page
from retort.db.lease import Lease, Renewal, held, lock
from retort.db.models import JOB_PREFIX, Job, new_id
from retort.db.statements import NO_SYNC, add
from retort.errors import UserError
from retort.events import Failure
from retort.spec import JobSpec, digest
from retort.states import ACTIVE, TERMINAL, AttemptState, JobState, sources

__all__ = [
    "JobFinished", "JobNotFound", "Reaped", "Submitted", "cancel", "claim", "claimable", "counts", "fail", "get",
    "hand_back", "mark_cancelled", "page", "reap", "renew", "requeue", "submit", "succeed",
]  # fmt: skip

_Row = Row[*tuple[Any, ...]]


class JobFinished(UserError):
    """The job has ended, so it cannot be changed any more."""

    code = "job_already_finished"


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that a submission stands for, and whether this submission made it."""

    job_id: str
    created: bool


@dataclass(frozen=True, slots=True)
class Reaped:
    """A job taken from a worker that stopped renewing, and the state it went to."""

    job_id: str
    state: JobState


def submit(
    session: Session,
    spec: JobSpec,
    *,
    now: float,
    retries: int,
    key: str | None = None,
    body_sha256: str | None = None,
) -> Submitted:
    """Accept a job into the queue, once per idempotency *key*.

    Raises:
        keys.KeyReused: the key came with another body before.

    """
    job_id = new_id(JOB_PREFIX)
    if key is not None:
        known = keys.take(session, key, body_sha256 or digest(spec), job_id, now=now)
        if known != job_id:
            return Submitted(known, created=False)
    row = {
        "id": job_id, "name": spec.name, "state": JobState.QUEUED, "progress": 0.0,
        "spec": spec.model_dump(mode="json"), "spec_digest": digest(spec),
        "attempt": 0, "fence": 0, "retries_left": retries, "last_seq": 1, "version": 1, "created_at": now,
    }  # fmt: skip
    add(session, Job, [row])
    transitions.enter(session, job_id, JobState.QUEUED, seq=1, attempt=0, now=now, actor="client", reason=None)
    return Submitted(job_id, created=True)


def claim(
    session: Session, job_id: str, *, worker: str, host: str, now: float, lease_s: float, device: str | None = None
) -> Lease | None:
    """Take the job for *worker* until ``now + lease_s``; None when it is not queued (any more)."""
    taken = _change(
        session, job_id, JobState.RUNNING, now=now, actor=f"worker:{worker}",
        attempt=Job.attempt + 1, fence=Job.fence + 1, worker=worker, lease_until=now + lease_s,
        stage=None, progress=0.0, eta_s=None, started_at=func.coalesce(Job.started_at, now),
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
        .returning(Job.last_seq, Job.state)
    )
    row = session.execute(renewed, execution_options=NO_SYNC).one_or_none()
    return row and Renewal(row.last_seq, row.state)


def succeed(session: Session, lease: Lease, *, now: float, result: dict[str, Any], exit_code: int = 0) -> bool:
    """End the job with *result*, also while it is being cancelled; False when the lease is no longer held."""
    return _end(session, lease, JobState.SUCCEEDED, now=now, exit_code=exit_code, result=result, progress=1.0)


def fail(session: Session, lease: Lease, *, now: float, failure: Failure, exit_code: int | None) -> bool:
    """End the job for good; False when the lease is no longer held."""
    return _end(session, lease, JobState.FAILED, now=now, exit_code=exit_code, failure=failure)


def mark_cancelled(session: Session, lease: Lease, *, now: float, exit_code: int | None) -> bool:
    """End a job whose run has stopped because it was cancelled; False when it was not, or the lease is not held."""
    return _end(session, lease, JobState.CANCELLED, now=now, exit_code=exit_code)


def requeue(session: Session, lease: Lease, *, now: float, failure: Failure, exit_code: int | None) -> JobState | None:
    """Try the job again after a failure that a retry may help, if it has a retry left.

    Returns:
        QUEUED, or FAILED when no retry is left, or CANCELLED when that was wished; None when the lease is not held.

    """
    actor = f"worker:{lease.worker}"
    return _give_up(session, lease, AttemptState.FAILED, now=now, actor=actor, failure=failure, exit_code=exit_code)


def hand_back(session: Session, lease: Lease, *, now: float) -> JobState | None:
    """Return the job of a draining worker to the queue without using up a retry.

    Returns:
        QUEUED, or CANCELLED when that was wished; None when the lease is not held.

    """
    return _give_up(session, lease, AttemptState.HANDED_BACK, now=now, actor=f"worker:{lease.worker}")


def cancel(session: Session, job_id: str, *, now: float, actor: str) -> JobState:
    """Cancel a queued job at once; ask a running one to stop. Asking again changes nothing.

    Raises:
        JobNotFound: there is no such job.
        JobFinished: it has succeeded or failed.

    """
    state = session.scalar(select(Job.state).where(Job.id == job_id).with_for_update())
    if state is None:
        raise JobNotFound(f"there is no job {job_id}")
    if state in {JobState.CANCELLING, JobState.CANCELLED}:
        return state
    if state in TERMINAL:
        raise JobFinished(f"job {job_id} has already {state}", hint="a job that has ended cannot be cancelled")
    target, ended = (JobState.CANCELLED, now) if state is JobState.QUEUED else (JobState.CANCELLING, None)
    changed = _change(session, job_id, target, among={state}, now=now, actor=actor, finished_at=ended)
    assert changed is not None, "the row is locked"
    return target


def reap(session: Session, *, now: float, limit: int = 100) -> list[Reaped]:
    """Take at most *limit* jobs from workers whose leases ran out before *now*; call again until none is left."""
    query = select(Job.id, Job.attempt, Job.fence, Job.worker).where(Job.state.in_(ACTIVE), Job.lease_until < now)
    # A row that is locked is being renewed, ended or reaped at this moment.
    lost = session.execute(query.order_by(Job.id).limit(limit).with_for_update(skip_locked=True)).all()
    reaped = []
    for job_id, attempt, fence, worker in lost:
        assert worker is not None, "active jobs have a worker"
        lease = Lease(job_id, attempt, fence, worker)
        failure = Failure(
            code="lost_worker",
            message=f"the worker {worker} stopped renewing its lease",
            hint="look for what ended the worker or cut it off from the database; the job need not change",
            retryable=True,
        )
        state = _give_up(session, lease, AttemptState.LOST, now=now, actor="reaper", failure=failure)
        assert state is not None, "the row is locked"
        reaped.append(Reaped(job_id, state))
    return reaped


def _give_up(
    session: Session,
    lease: Lease,
    attempt_state: AttemptState,
    *,
    now: float,
    actor: str,
    failure: Failure | None = None,
    exit_code: int | None = None,
) -> JobState | None:
    """Close an attempt that did not bring the job to an end, and send the job where it belongs."""
    job = lock(session, lease)
    if job is None:
        return None
    dump = failure.model_dump(mode="json") if failure else None
    values: dict[str, Any] = {"worker": None, "lease_until": None, "eta_s": None}
    if job.state is JobState.CANCELLING:
        target = JobState.CANCELLED
        values["finished_at"] = now
    elif failure is None or job.retries_left > 0:
        target = JobState.QUEUED
        values |= {"stage": None, "retries_left": Job.retries_left - int(failure is not None)}
    else:
        target = JobState.FAILED
        values |= {"failure": dump, "finished_at": now}
    reason = failure.code if failure else "drain"
    changed = _change(session, lease.job_id, target, lease=lease, now=now, actor=actor, reason=reason, **values)
    assert changed is not None, "the row is locked"
    attempts.end(session, lease.job_id, lease.attempt, attempt_state, now=now, exit_code=exit_code, failure=dump)
    return target


def _end(
    session: Session,
    lease: Lease,
    target: JobState,
    *,
    now: float,
    exit_code: int | None,
    failure: Failure | None = None,
    **values: Any,
) -> bool:
    """Bring the job to the terminal state *target* under the lease, and its attempt with it."""
    dump = failure.model_dump(mode="json") if failure else None
    values |= {"failure": dump, "worker": None, "lease_until": None, "eta_s": None, "finished_at": now}
    actor, reason = f"worker:{lease.worker}", failure.code if failure else None
    if _change(session, lease.job_id, target, lease=lease, now=now, actor=actor, reason=reason, **values) is None:
        return False
    state = AttemptState(target.value)
    attempts.end(session, lease.job_id, lease.attempt, state, now=now, exit_code=exit_code, failure=dump)
    return True


def _change(
    session: Session,
    job_id: str,
    target: JobState,
    *,
    now: float,
    actor: str,
    reason: str | None = None,
    lease: Lease | None = None,
    among: Collection[JobState] = frozenset(JobState),
    **values: Any,
) -> _Row | None:
    """Move the job to *target* where the table of transitions allows it: the one statement that sets a state."""
    statement = update(Job).where(Job.id == job_id, Job.state.in_(sources(target) & set(among)))
    if lease is not None:
        statement = statement.where(held(lease))
    statement = statement.values(state=target, version=Job.version + 1, last_seq=Job.last_seq + 1, **values)
    returning = statement.returning(Job.last_seq, Job.attempt, Job.fence)
    row = session.execute(returning, execution_options=NO_SYNC).one_or_none()
    if row is not None:
        transitions.enter(
            session, job_id, target, seq=row.last_seq, attempt=row.attempt, now=now, actor=actor, reason=reason
        )
    return row
