"""Keep the state machine of jobs: leases, transitions, attempts, retries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, case, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from retort import errors
from retort.constants import MAP
from retort.db import webhooks
from retort.db.models import AttemptRow, EventRow, JobRow, MetricRow, TransitionRow
from retort.db.session import add, table
from retort.protocol.events import RunFailure
from retort.protocol.workdir import ENDED
from retort.spec.result import Result
from retort.states import ACTIVE, SOURCES, AttemptState, JobState


@dataclass(frozen=True, slots=True)
class Lease:
    """Claim of one worker on one job; *fence* is unique to it."""

    job_id: str
    attempt: int
    fence: int
    worker: str


@dataclass(frozen=True, slots=True)
class Renewal:
    """Answer to a renewed lease: last event number and requested state."""

    last_seq: int
    state: JobState
    finish_early: bool = False


_JOBS = table(JobRow)
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


def enter(
    session: Session,
    job_id: str,
    state: JobState,
    *,
    seq: int,
    attempt: int,
    now: float,
    actor: str,
    reason: str | None,
) -> None:
    """Record that the job has entered *state*.

    It is written as a transition, and as the event numbered *seq*.
    """
    entered = TransitionRow.row(job_id, state, attempt=attempt, now=now, actor=actor, reason=reason)
    add(session, TransitionRow, [entered])
    add(session, EventRow, [EventRow.of_transition(entered, seq=seq)])
    webhooks.announce(session, [entered])


_ATTEMPTS = table(AttemptRow)
_ENDED_NOW: Any = bindparam("ended_now", type_=_ATTEMPTS.c.started_at.type)
_END = update(_ATTEMPTS).where(
    _ATTEMPTS.c.job_id == bindparam("of_job"),
    _ATTEMPTS.c.number == bindparam("of_number"),
    _ATTEMPTS.c.state == AttemptState.RUNNING,
).values(
    state=bindparam("ended_as"), exit_code=bindparam("ended_code"), failure=bindparam("ended_by"),
    ended_at=case((_ATTEMPTS.c.started_at > _ENDED_NOW, _ATTEMPTS.c.started_at), else_=_ENDED_NOW),
)  # fmt: skip


def count_failures(session: Session, job_id: str, code: str, *, since: int = 0) -> int:
    """Return the number of the job's attempts from *since* on that failed with *code*.

    Only attempts that have ended count.
    """
    failures = session.scalars(
        select(AttemptRow.failure).where(
            AttemptRow.job_id == job_id, AttemptRow.number >= since, AttemptRow.failure.is_not(None)
        )
    )
    return sum(failure["code"] == code for failure in failures if failure is not None)


_METRICS = table(MetricRow)
_FIRST_MEASURED = (
    select(func.min(_METRICS.c.attempt).label("attempt"))
    .where(
        _METRICS.c.job_id == bindparam("of_job"), _METRICS.c.step > 0, _METRICS.c.name.endswith(MAP, autoescape=True)
    )
    .group_by(_METRICS.c.role, _METRICS.c.name, _METRICS.c.step)
    .subquery()
)
_LATEST_PROGRESS = select(func.max(_FIRST_MEASURED.c.attempt))


def latest_progress(session: Session, job_id: str) -> int:
    """Return the latest attempt that got further; 0 for none.

    It ended an epoch which none before it had ended. Epochs are finite, so what such an attempt is granted is bounded.
    """
    return session.connection().execute(_LATEST_PROGRESS, {"of_job": job_id}).scalar_one() or 0


def attempt_row(lease: Lease, *, host: str, device: str | None, now: float) -> dict[str, Any]:
    """Return the row that opens the attempt for which *lease* was given."""
    about = {"job_id": lease.job_id, "number": lease.attempt, "fence": lease.fence, "worker": lease.worker}
    state = {"state": AttemptState.RUNNING, "started_at": now, "journal_offset": 0}
    return {**about, **state, "host": host, "device": device}


def end_attempt(
    session: Session,
    job_id: str,
    number: int,
    state: AttemptState,
    *,
    now: float,
    exit_code: int | None = None,
    failure: dict[str, Any] | None = None,
) -> None:
    """Close the attempt with *state*.

    It is open because its job's state has just left the active ones.
    """
    open_one = {"of_job": job_id, "of_number": number}
    changed = {"ended_as": state, "ended_code": exit_code, "ended_by": failure, "ended_now": now}
    session.connection().execute(_END, {**open_one, **changed})


_SMALLEST_BATCH = 2


@dataclass(frozen=True, slots=True)
class Retry:
    """Another try after a pause, under *adjustments*.

    They are as in ``retort.data.inputs``; None for none.
    """

    pause_s: float
    adjustments: dict[str, Any] | None


def decide_retry(failure: RunFailure, job: Any, *, left: int, earlier: int) -> Retry | None:
    """Return the retry after *failure*; None when the job must fail.

    Args:
        failure: of the attempt that has just ended.
        job: has ``spec`` and ``adjustments``.
        left: retries that the job has left.
        earlier: how many attempts have failed in the same way since the job last got further.

    """
    if left <= 0:
        return None
    learned = job.adjustments
    if failure.code == "out_of_memory":
        smaller = _half(job.spec, learned or {})
        return None if smaller is None else Retry(0.0, {**(learned or {}), **smaller})
    kind = errors.failure_class(failure.code)
    if not failure.retryable or earlier >= kind.retries:
        return None
    if failure.code == "shared_memory":
        learned = {**(learned or {}), "loader_workers": 0}
    return Retry(kind.pause_s(earlier), learned)


def _half(spec: dict[str, Any], adjustments: dict[str, Any]) -> dict[str, Any] | None:
    """Return what halves the batch, where the spec allows it and it was not halved before.

    The GPUs have to share it. A batch that the run finds is halved by the run, which alone knows it.
    """
    if adjustments.get("extension") is not None:
        return None  # it goes on in the batches in which the training began
    resources, batch = spec["resources"], spec["training"]["batch"]
    if not resources.get("halve_batch") or adjustments.get("batch") is not None or adjustments.get("halved"):
        return None
    if batch == "auto":
        return {"halved": True}
    gpus = int(resources["gpus"])
    smaller = int(batch) // 2 // gpus * gpus
    return {"batch": smaller} if smaller >= _SMALLEST_BATCH else None


_REASONS = {JobState.PAUSED: "pause", JobState.AWAITING_REVIEW: "review"}
_LET_GO: dict[str, Any] = {"worker": None, "lease_until": None, "claimed_at": None, "eta_s": None}


def apply(
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
    """Move the job to *target* where the transition table allows it.

    None when the table does not, or not any more. A job that leaves its worker has *ran_until* then; *values* are
    further columns, and what to write there.
    """
    statement = _statement(
        target, frozenset(among), tuple(values), leased=lease is not None, ran=ran_until is not None
    )  # fmt: skip
    about = {"of_job": job_id, "ran_until": ran_until, **(held_by(lease) if lease else {})}
    written = {f"new_{name}": value for name, value in values.items()}
    row = session.connection().execute(statement, {**about, **written}).one_or_none()
    if row is not None:
        enter(session, job_id, target, seq=row.last_seq, attempt=row.attempt, now=now, actor=actor, reason=reason)
    return row


@lru_cache(maxsize=64)
def _statement(
    target: JobState, among: frozenset[JobState], names: tuple[str, ...], *, leased: bool, ran: bool
) -> ReturningUpdate[*tuple[Any, ...]]:
    """Build it once: that takes several times as long as running it."""
    columns = _JOBS.c
    where = (columns.id == bindparam("of_job"), columns.state.in_(SOURCES[target] & among))
    values: dict[str, Any] = {name: bindparam(f"new_{name}", type_=columns[name].type) for name in names}
    if "finished_at" in values:
        given, begun = values["finished_at"], func.coalesce(columns.started_at, columns.created_at)
        values["finished_at"] = case((given < begun, begun), else_=given)
    counted = {"version": columns.version + 1, "last_seq": columns.last_seq + 1}
    statement = update(_JOBS).where(*where, *((HELD,) if leased else ())).values(state=target, **counted, **values)
    if ran:
        lasted: Any = bindparam("ran_until", type_=columns.run_s.type) - columns.claimed_at
        # A clock that was set back says that it ended before it began.
        statement = statement.values(run_s=columns.run_s + case((lasted > 0, lasted), else_=0.0))
    return statement.returning(columns.last_seq, columns.attempt, columns.fence)


def finish(
    session: Session,
    lease: Lease,
    target: JobState,
    *,
    now: float,
    exit_code: int | None,
    failure: RunFailure | None = None,
    **values: Any,
) -> bool:
    """Finish the job and its attempt in the terminal state *target*.

    It does so under the lease.
    """
    dump = failure.model_dump(mode="json") if failure else None
    values |= {**_LET_GO, "failure": dump, "finished_at": now}
    actor, reason = f"worker:{lease.worker}", failure.code if failure else None
    moved = apply(
        session, lease.job_id, target, lease=lease, now=now, ran_until=now, actor=actor, reason=reason, **values
    )  # fmt: skip
    if moved is None:
        return False
    state = AttemptState(target.value)
    end_attempt(session, lease.job_id, lease.attempt, state, now=now, exit_code=exit_code, failure=dump)
    return True


def release(
    session: Session,
    lease: Lease,
    attempt_state: AttemptState,
    *,
    now: float,
    actor: str,
    failure: RunFailure | None = None,
    exit_code: int | None = None,
    alive_until: float | None = None,
    resting: JobState = JobState.QUEUED,
) -> JobState | None:
    """Close an unfinished attempt, and set the job's next state.

    The attempt did not bring the job to an end; the job goes where it belongs.

    Returns:
        CANCELLED or PAUSED when that was wished, else *resting*, or FAILED when trying again cannot help or there is no
        retry left; None when the lease is not held.

    """
    job = lock(session, lease)
    if job is None:
        return None
    ran_until = now if alive_until is None else min(now, alive_until)
    dump = failure.model_dump(mode="json") if failure else None
    target, changes = _next_state(session, lease, job.state, failure, now=now, resting=resting)
    values = {**_LET_GO, **changes}
    if target is JobState.FAILED:
        values["failure"] = dump
    reason = failure.code if failure else _REASONS.get(target, "drain")
    changed = apply(
        session, lease.job_id, target, lease=lease, now=now, ran_until=ran_until, actor=actor, reason=reason, **values
    )  # fmt: skip
    assert changed is not None, "the row is locked"
    end_attempt(session, lease.job_id, lease.attempt, attempt_state, now=now, exit_code=exit_code, failure=dump)
    return target


def plan(
    session: Session,
    lease: Lease,
    *,
    succeeded: bool,
    failure: RunFailure | None,
    now: float,
    resting: JobState = JobState.QUEUED,
) -> JobState | None:
    """Return the job's next state when its attempt ends so.

    It keeps that state from changing until then. None when the lease is not held.
    """
    job = lock(session, lease)
    if job is None:
        return None
    if succeeded:
        return JobState.SUCCEEDED
    return _next_state(session, lease, job.state, failure, now=now, resting=resting)[0]


def _next_state(
    session: Session, lease: Lease, state: JobState, failure: RunFailure | None, *, now: float, resting: JobState
) -> tuple[JobState, dict[str, Any]]:
    """Return where a job goes whose attempt ended without a result, and what changes on it."""
    if state is JobState.CANCELLING:
        return JobState.CANCELLED, {"finished_at": now}
    resting = JobState.PAUSED if state is JobState.PAUSING else resting
    about = session.execute(
        select(JobRow.retries, JobRow.retries_left, JobRow.spec, JobRow.adjustments).where(JobRow.id == lease.job_id)
    ).one()
    progress = latest_progress(session, lease.job_id)
    left = about.retries if progress == lease.attempt else about.retries_left
    # Being told to pause is as good a reason to stop as the world's failures, and costs no retry.
    if failure is None or (failure.retryable and resting is JobState.PAUSED):
        return resting, {"stage": None, "retries_left": left}
    earlier = count_failures(session, lease.job_id, failure.code, since=progress)
    again = decide_retry(failure, about, left=left, earlier=earlier)
    if again is None:
        return JobState.FAILED, {"finished_at": now}
    learned = {"retries_left": left - 1, "adjustments": again.adjustments}
    return resting, {"stage": None, "claimable_at": now + again.pause_s, **learned}


def succeed(session: Session, lease: Lease, *, now: float, result: Result, exit_code: int = 0) -> bool:
    """End the job with *result*; False when the lease is lost.

    Of what it has saved it keeps the last state, from which it can be extended.
    """
    saved = session.scalar(select(JobRow.recovery).where(JobRow.id == lease.job_id))
    return finish(
        session, lease, JobState.SUCCEEDED, now=now, exit_code=exit_code, progress=1.0, recovery=_last(lease, saved),
        result=result.model_dump(mode="json"),
    )  # fmt: skip


def _last(lease: Lease, saved: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the part of *saved* from which a job that has succeeded can be extended, if it has one."""
    if saved is None or saved["job_id"] != lease.job_id or saved["stage"] != ENDED:
        return None
    return {**saved, "files": [file for file in saved["files"] if file.get("last")]}


def fail(session: Session, lease: Lease, *, now: float, failure: RunFailure, exit_code: int | None) -> JobState | None:
    """Close a failed attempt, and retry the job where allowed.

    It is tried again where that may help and its budget allows.

    Returns:
        QUEUED when it is tried again, PAUSED or CANCELLED when that was wished, else FAILED; None when the lease is
        not held.

    """
    actor = f"worker:{lease.worker}"
    return release(
        session, lease, AttemptState.FAILED, now=now, actor=actor, failure=failure, exit_code=exit_code
    )  # fmt: skip


def mark_cancelled(session: Session, lease: Lease, *, now: float, exit_code: int | None) -> bool:
    """End a job whose run has stopped because of cancellation.

    False when it was not cancelled, or the lease is not held.
    """
    return finish(session, lease, JobState.CANCELLED, now=now, exit_code=exit_code)


def hand_back(session: Session, lease: Lease, *, now: float) -> JobState | None:
    """Re-queue or pause the job without using up a retry.

    Returns:
        QUEUED, or PAUSED or CANCELLED when that was wished; None when the lease is not held.

    """
    return release(session, lease, AttemptState.HANDED_BACK, now=now, actor=f"worker:{lease.worker}")


def await_review(session: Session, lease: Lease, *, now: float, exit_code: int | None) -> JobState | None:
    """Let a job that awaits review rest without a worker.

    Its run waits for people; no retry is used up.

    Returns:
        AWAITING_REVIEW, or PAUSED or CANCELLED when that was wished; None when the lease is not held.

    """
    return release(
        session, lease, AttemptState.HANDED_BACK, now=now, actor=f"worker:{lease.worker}", exit_code=exit_code,
        resting=JobState.AWAITING_REVIEW,
    )  # fmt: skip
