"""The tries of jobs on workers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from retort.db.lease import Lease
from retort.db.models import Attempt
from retort.db.statements import NO_SYNC, add
from retort.states import AttemptState


def of_job(session: Session, job_id: str) -> list[Attempt]:
    """Return the job's attempts, first to last."""
    return list(session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)))


def count_failures(session: Session, job_id: str, code: str) -> int:
    """Return how many of the job's attempts that have ended failed with *code*."""
    failures = session.scalars(select(Attempt.failure).where(Attempt.job_id == job_id, Attempt.failure.is_not(None)))
    return sum(failure["code"] == code for failure in failures if failure is not None)


def begin(session: Session, lease: Lease, *, host: str, device: str | None, now: float) -> None:
    """Open the attempt that *lease* was given for."""
    row = {"job_id": lease.job_id, "number": lease.attempt, "fence": lease.fence, "worker": lease.worker}
    state = {"state": AttemptState.RUNNING, "started_at": now, "journal_offset": 0}
    add(session, Attempt, [{**row, **state, "host": host, "device": device}])


def end(
    session: Session,
    job_id: str,
    number: int,
    state: AttemptState,
    *,
    now: float,
    exit_code: int | None = None,
    failure: dict[str, Any] | None = None,
) -> None:
    """Close the attempt, which is open because its job's state has just left the active ones."""
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.number == number, Attempt.state == AttemptState.RUNNING)
        .values(state=state, ended_at=now, exit_code=exit_code, failure=failure),
        execution_options=NO_SYNC,
    )
