"""The changes of jobs' states, and the one statement that makes them."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from retort.db import attempts, retries, transitions
from retort.db.lease import HELD, Lease, held_by, lock
from retort.db.models import Job
from retort.db.statements import table
from retort.events import Failure
from retort.states import AttemptState, JobState, sources

_JOBS = table(Job)
_REASONS = {JobState.PAUSED: "pause", JobState.AWAITING_REVIEW: "review"}
_LET_GO: dict[str, Any] = {"worker": None, "lease_until": None, "claimed_at": None, "eta_s": None}


def move(
    session: Session,
    job_id: str,
    target: JobState,
    *,
    now: float,
    actor: str,
    reason: str | None = None,
    lease: Lease | None = None,
    among: Collection[JobState] = frozenset(JobState),
    ran_until: float | None = None,
    **values: Any,
) -> Row[*tuple[Any, ...]] | None:
    """Move the job to *target* where the table of transitions allows it; None when it does not, or not any more.

    A job that leaves its worker has *ran_until* then; *values* are further columns, and what to write there.
    """
    statement = _statement(
        target, frozenset(among), tuple(values), leased=lease is not None, ran=ran_until is not None
    )  # fmt: skip
    about = {"of_job": job_id, "ran_until": ran_until, **(held_by(lease) if lease else {})}
    written = {f"new_{name}": value for name, value in values.items()}
    row = session.connection().execute(statement, {**about, **written}).one_or_none()
    if row is not None:
        transitions.enter(
            session, job_id, target, seq=row.last_seq, attempt=row.attempt, now=now, actor=actor, reason=reason
        )
    return row


@lru_cache(maxsize=64)
def _statement(
    target: JobState, among: frozenset[JobState], names: tuple[str, ...], *, leased: bool, ran: bool
) -> ReturningUpdate[*tuple[Any, ...]]:
    """Build it once: that takes several times as long as running it."""
    columns = _JOBS.c
    where = (columns.id == bindparam("of_job"), columns.state.in_(sources(target) & among))
    values = {name: bindparam(f"new_{name}", type_=columns[name].type) for name in names}
    counted = {"version": columns.version + 1, "last_seq": columns.last_seq + 1}
    statement = update(_JOBS).where(*where, *((HELD,) if leased else ())).values(state=target, **counted, **values)
    if ran:
        statement = statement.values(run_s=columns.run_s + bindparam("ran_until") - columns.claimed_at)
    return statement.returning(columns.last_seq, columns.attempt, columns.fence)


def end(
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
    values |= {**_LET_GO, "failure": dump, "finished_at": now}
    actor, reason = f"worker:{lease.worker}", failure.code if failure else None
    moved = move(
        session, lease.job_id, target, lease=lease, now=now, ran_until=now, actor=actor, reason=reason, **values
    )  # fmt: skip
    if moved is None:
        return False
    state = AttemptState(target.value)
    attempts.end(session, lease.job_id, lease.attempt, state, now=now, exit_code=exit_code, failure=dump)
    return True


def give_up(
    session: Session,
    lease: Lease,
    attempt_state: AttemptState,
    *,
    now: float,
    actor: str,
    failure: Failure | None = None,
    exit_code: int | None = None,
    alive_until: float | None = None,
    resting: JobState = JobState.QUEUED,
) -> JobState | None:
    """Close an attempt that did not bring the job to an end, and send the job where it belongs.

    Returns:
        CANCELLED or PAUSED when that was wished, else *resting*, or FAILED when trying again cannot help or there is no
        retry left; None when the lease is not held.

    """
    job = lock(session, lease)
    if job is None:
        return None
    ran_until = now if alive_until is None else min(now, alive_until)
    dump = failure.model_dump(mode="json") if failure else None
    target, changes = _destination(session, lease, job.state, failure, now=now, resting=resting)
    values = {**_LET_GO, **changes}
    if target is JobState.FAILED:
        values["failure"] = dump
    reason = failure.code if failure else _REASONS.get(target, "drain")
    changed = move(
        session, lease.job_id, target, lease=lease, now=now, ran_until=ran_until, actor=actor, reason=reason, **values
    )  # fmt: skip
    assert changed is not None, "the row is locked"
    attempts.end(session, lease.job_id, lease.attempt, attempt_state, now=now, exit_code=exit_code, failure=dump)
    return target


def outlook(
    session: Session,
    lease: Lease,
    *,
    succeeded: bool,
    failure: Failure | None,
    now: float,
    resting: JobState = JobState.QUEUED,
) -> JobState | None:
    """Return the state to which the job will go when its attempt ends so, and keep it from changing until then.

    None when the lease is not held.
    """
    job = lock(session, lease)
    if job is None:
        return None
    if succeeded:
        return JobState.SUCCEEDED
    return _destination(session, lease, job.state, failure, now=now, resting=resting)[0]


def _destination(
    session: Session, lease: Lease, state: JobState, failure: Failure | None, *, now: float, resting: JobState
) -> tuple[JobState, dict[str, Any]]:
    """Return where a job goes whose attempt ended without a result, and what changes on it."""
    if state is JobState.CANCELLING:
        return JobState.CANCELLED, {"finished_at": now}
    resting = JobState.PAUSED if state is JobState.PAUSING else resting
    # Being told to pause is as good a reason to stop as the world's failures, and costs no retry.
    if failure is None or (failure.retryable and resting is JobState.PAUSED):
        return resting, {"stage": None}
    about = session.execute(select(Job.retries_left, Job.spec, Job.adjustments).where(Job.id == lease.job_id)).one()
    earlier = attempts.count_failures(session, lease.job_id, failure.code)
    again = retries.decide(failure, about, earlier=earlier)
    if again is None:
        return JobState.FAILED, {"finished_at": now}
    learned = {"retries_left": about.retries_left - 1, "adjustments": again.adjustments}
    return resting, {"stage": None, "claimable_at": now + again.pause_s, **learned}
