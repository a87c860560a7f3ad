"""The files in the store from which any worker can go on with a job."""

from __future__ import annotations

from typing import Any

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session, aliased

from retort.db import events
from retort.db.lease import HELD, Lease, held_by
from retort.db.models import Job
from retort.db.statements import NO_SYNC, table
from retort.states import TERMINAL


def record(session: Session, lease: Lease, saved: dict[str, Any], *, now: float) -> bool:
    """Let the job go on from *saved*, and say so; False when the lease is no longer held.

    *saved* has ``job_id``, ``attempt``, ``stage``, ``epoch`` and ``files``, each with ``path`` (in the working folder),
    ``key`` (in the store), ``sha256`` and ``size_bytes``.
    """
    seq = events.next_seq(session, lease)
    if seq is None:
        return False
    jobs = table(Job)
    changed = update(jobs).where(HELD).values(recovery=saved, version=jobs.c.version + 1)
    session.connection().execute(changed, held_by(lease))
    size_bytes = sum(file["size_bytes"] for file in saved["files"])
    told = {"stage": saved["stage"], "epoch": saved["epoch"], "size_bytes": size_bytes}
    events.append(session, lease.job_id, seq=seq, attempt=lease.attempt, kind="saved", at=now, data=told)
    return True


def forget_old(session: Session, *, before: float, limit: int = 100) -> list[str]:
    """Give up what at most *limit* jobs that ended before *before* have saved; return their ids.

    A job that goes on from another's files keeps them.
    """
    child = aliased(Job)
    needed = exists().where(child.parent_id == Job.id, child.state.not_in(TERMINAL))
    old = select(Job.id).where(Job.recovery.is_not(None), Job.finished_at < before, ~needed)
    ids = list(session.scalars(old.limit(limit)))
    forgotten = update(Job).where(Job.id.in_(ids)).values(recovery=None, version=Job.version + 1)
    session.execute(forgotten, execution_options=NO_SYNC)
    return ids


def without(session: Session, job_ids: list[str]) -> list[str]:
    """Return those of the jobs that have ended and can no longer be gone on with."""
    ended = select(Job.id).where(Job.id.in_(job_ids), Job.state.in_(TERMINAL), Job.recovery.is_(None))
    return list(session.scalars(ended))
