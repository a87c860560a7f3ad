"""The timed changes of jobs' states and stages."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from retort.db import events
from retort.db.models import EventRow, Transition
from retort.db.statements import add
from retort.states import JobState


def of_job(session: Session, job_id: str) -> list[Transition]:
    """Return the job's transitions in the order in which they were recorded."""
    return list(session.scalars(select(Transition).where(Transition.job_id == job_id).order_by(Transition.id)))


def row(job_id: str, state: JobState, *, attempt: int, now: float, actor: str, reason: str | None) -> dict[str, Any]:
    """Return the row that says that the job has entered *state*."""
    when = {"at": now, "attempt": attempt, "actor": actor, "reason": reason}
    return {"job_id": job_id, "kind": "state", "name": state.value, **when}


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
    """Write down that the job has entered *state*, as a transition and as the event numbered *seq*."""
    entered = row(job_id, state, attempt=attempt, now=now, actor=actor, reason=reason)
    add(session, Transition, [entered])
    add(session, EventRow, [events.of_transition(entered, seq=seq)])
