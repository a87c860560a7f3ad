"""The tries of jobs on workers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from retort.db.lease import Lease
from retort.db.models import Attempt
from retort.db.statements import table
from retort.states import AttemptState

_ATTEMPTS = table(Attempt)
_END = update(_ATTEMPTS).where(
    _ATTEMPTS.c.job_id == bindparam("of_job"),
    _ATTEMPTS.c.number == bindparam("of_number"),
    _ATTEMPTS.c.state == AttemptState.RUNNING,
)


def of_job(session: Session, job_id: str) -> list[Attempt]:
    """Return the job's attempts, first to last."""
    return list(session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)))


def count_failures(session: Session, job_id: str, code: str) -> int:
    """Return how many of the job's attempts that have ended failed with *code*."""
    failures = session.scalars(select(Attempt.failure).where(Attempt.job_id == job_id, Attempt.failure.is_not(None)))
    return sum(failure["code"] == code for failure in failures if failure is not None)


def row(lease: Lease, *, host: str, device: str | None, now: float) -> dict[str, Any]:
    """Return the row that opens the attempt for which *lease* was given."""
    about = {"job_id": lease.job_id, "number": lease.attempt, "fence": lease.fence, "worker": lease.worker}
    state = {"state": AttemptState.RUNNING, "started_at": now, "journal_offset": 0}
    return {**about, **state, "host": host, "device": device}


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
    open_one = {"of_job": job_id, "of_number": number}
    changed = {"state": state, "ended_at": now, "exit_code": exit_code, "failure": failure}
    session.connection().execute(_END, {**open_one, **changed})
