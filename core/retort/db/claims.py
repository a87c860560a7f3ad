"""Workers take jobs: one by one, or many in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, bindparam, func, select, update
from sqlalchemy.orm import Session

from retort.db import attempts, events, transitions
from retort.db.lease import Lease
from retort.db.models import Attempt, EventRow, Job, Transition
from retort.db.queue import may_be_claimed
from retort.db.statements import add, table
from retort.states import JobState

_JOBS = table(Job)
_AT: BindParameter[float] = bindparam("at")
_NAMED = _JOBS.c.id.in_(bindparam("ids", expanding=True))
# Two statements: in one, PostgreSQL may lock the rows anew for each that it changes.
_FREE = (
    select(_JOBS.c.id)
    .where(_NAMED, _JOBS.c.state == JobState.QUEUED, *may_be_claimed(_AT))
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(_JOBS)
    .where(_NAMED)
    .values(
        state=JobState.RUNNING, version=_JOBS.c.version + 1, last_seq=_JOBS.c.last_seq + 1,
        attempt=_JOBS.c.attempt + 1, fence=_JOBS.c.fence + 1, worker=bindparam("by"), lease_until=bindparam("until"),
        claimed_at=_AT, started_at=func.coalesce(_JOBS.c.started_at, _AT),
        expires_at=None, stage=None, progress=0.0, eta_s=None,
    )
    .returning(
        _JOBS.c.id, _JOBS.c.attempt, _JOBS.c.fence, _JOBS.c.last_seq, _JOBS.c.spec, _JOBS.c.run_s, _JOBS.c.adjustments,
        _JOBS.c.recovery,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker now holds, and what it must know of it."""

    lease: Lease
    spec: Mapping[str, Any]
    ran_s: float
    """How long earlier attempts ran."""
    adjustments: Mapping[str, Any] | None
    recovery: Mapping[str, Any] | None


def claim(
    session: Session, job_id: str, *, worker: str, host: str, now: float, lease_s: float, device: str | None = None
) -> Lease | None:
    """Take the job for *worker* until ``now + lease_s``; None when it is not to be claimed (any more)."""
    claims = claim_all(session, {job_id: device}, worker=worker, host=host, now=now, lease_s=lease_s)
    return claims[0].lease if claims else None


def claim_all(
    session: Session, wanted: Mapping[str, str | None], *, worker: str, host: str, now: float, lease_s: float
) -> list[Claim]:
    """Take what may be claimed of the jobs *wanted*, each for its device, until ``now + lease_s``.

    A job that another transaction is writing at this moment is passed over, so that workers which look at the same
    jobs wait neither for each other nor in a circle.
    """
    connection = session.connection()
    ids = connection.execute(_FREE, {"ids": list(wanted), "at": now}).scalars().all()
    if not ids:
        return []
    rows = connection.execute(_TAKE, {"ids": ids, "by": worker, "at": now, "until": now + lease_s}).all()
    claims, begun, entered, told = [], [], [], []
    for row in rows:
        lease = Lease(row.id, row.attempt, row.fence, worker)
        claims.append(Claim(lease, row.spec, row.run_s, row.adjustments, row.recovery))
        begun.append(attempts.row(lease, host=host, device=wanted[row.id], now=now))
        running = transitions.row(
            row.id, JobState.RUNNING, attempt=row.attempt, now=now, actor=f"worker:{worker}", reason=None
        )
        entered.append(running)
        told.append(events.of_transition(running, seq=row.last_seq))
    add(session, Attempt, begun)
    add(session, Transition, entered)
    add(session, EventRow, told)
    return claims
