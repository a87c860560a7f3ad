"""The timed changes of jobs' states and stages."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from retort.db import events
from retort.db.models import Transition
from retort.db.statements import add
from retort.states import JobState


def of_job(session: Session, job_id: str) -> list[Transition]:
    """Return the job's transitions in the order in which they were recorded."""
    return list(session.scalars(select(Transition).where(Transition.job_id == job_id).order_by(Transition.id)))


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
) -> dict[str, Any]:
    """Write down that the job has entered *state*, as the event numbered *seq* and as a transition; return its row."""
    what = {"actor": actor, "reason": reason}
    row: dict[str, Any] = {
        "job_id": job_id,
        "kind": "state",
        "name": state.value,
        "at": now,
        "attempt": attempt,
        **what,
    }
    add(session, Transition, [row])
    data = {"state": state.value, **what}
    events.append(session, job_id, seq=seq, attempt=attempt, kind="state", at=now, data=data)
    return row
