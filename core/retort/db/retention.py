"""Apply the operator's retention in small batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, exists, false, func, or_, select
from sqlalchemy.orm import Session

from retort.constants import MAP
from retort.db import trash
from retort.db.jobs import WrongState
from retort.db.models import ArtifactRow, EventRow, IdempotencyKeyRow, JobRow, MetricRow, ModelRow, SweepRow
from retort.db.session import NO_SYNC, table
from retort.states import LIVE_SWEEPS, JobState, SweepState

CHECKPOINTS = "checkpoints/"
"""Beginning of the names of the artifacts that a run publishes after epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """For how many seconds each kind of thing is kept; None is for ever."""

    jobs_s: Mapping[Any, float]
    """By the state in which a job or sweep has ended; one that is not there is kept for ever."""
    events_s: float | None
    metrics_s: float | None
    keys_s: float | None
    checkpoints_s: float | None
    trash_s: float


@dataclass(frozen=True, slots=True)
class RetentionShare:
    """Number and bytes that retention would take of one kind."""

    kind: str
    number: int
    size_bytes: int


def old_jobs(policy: RetentionPolicy, *, now: float) -> Any:
    """Return the condition of jobs that have been kept for long enough."""
    ended = [
        and_(JobRow.state == state, JobRow.finished_at < now - kept_s)
        for state, kept_s in policy.jobs_s.items()
    ]  # fmt: skip
    free = (JobRow.keep.is_(False), JobRow.deleted_at.is_(None), JobRow.sweep_id.is_(None))
    return and_(or_(false(), *ended), *free, ~trash.needed_by_child(JobRow))


def trash_old_jobs(session: Session, policy: RetentionPolicy, *, now: float, limit: int = 100) -> int:
    """Move at most *limit* old jobs to the trash; return their number."""
    found = select(JobRow.id).where(old_jobs(policy, now=now)).order_by(JobRow.finished_at).limit(limit)
    ids = list(session.scalars(found.with_for_update(skip_locked=True)))
    if ids:
        trash.move_jobs(session, ids, now=now)
    return len(ids)


def old_sweeps(policy: RetentionPolicy, *, now: float) -> Any:
    """Return the condition of old sweeps without pinned jobs."""
    known = [(state, policy.jobs_s[state]) for state in SweepState if state in policy.jobs_s]
    ended = [and_(SweepRow.state == state, SweepRow.finished_at < now - kept_s) for state, kept_s in known]
    pinned = exists().where(JobRow.sweep_id == SweepRow.id, JobRow.keep.is_(True))
    free = (SweepRow.keep.is_(False), SweepRow.deleted_at.is_(None), SweepRow.state.not_in(LIVE_SWEEPS))
    return and_(or_(false(), *ended), *free, ~pinned)


def trash_old_sweeps(session: Session, policy: RetentionPolicy, *, now: float, limit: int = 20) -> int:
    """Move at most *limit* old sweeps to the trash; return their number."""
    found = list(session.scalars(select(SweepRow.id).where(old_sweeps(policy, now=now)).limit(limit)))
    gone = 0
    for sweep_id in found:
        try:
            with session.begin_nested():
                trash.delete_sweep(session, sweep_id, now=now)
        except (trash.InUse, WrongState):  # one of its jobs is being repeated, or has yet to end
            continue
        gone += 1
    return gone


def _ended_before(at: float) -> Any:
    pinned = exists().where(SweepRow.id == JobRow.sweep_id, SweepRow.keep.is_(True))
    return and_(JobRow.finished_at < at, JobRow.keep.is_(False), ~pinned)


def drop_events(session: Session, *, before: float, limit: int = 20) -> int:
    """Delete the events of at most *limit* jobs; return the number of jobs."""
    return _drop(session, EventRow, before, limit)


def drop_metrics(session: Session, *, before: float, limit: int = 20) -> int:
    """Delete the curves of at most *limit* jobs; return the number of jobs."""
    return _drop(session, MetricRow, before, limit)


def _drop(session: Session, rows: type[EventRow | MetricRow], before: float, limit: int) -> int:
    has_any = exists().where(rows.job_id == JobRow.id)
    found = select(JobRow.id).where(_ended_before(before), has_any).order_by(JobRow.finished_at).limit(limit)
    ids = list(session.scalars(found))
    session.execute(delete(rows).where(rows.job_id.in_(ids)), execution_options=NO_SYNC)
    return len(ids)


def drop_keys(session: Session, *, before: float, limit: int = 1000) -> int:
    """Forget at most *limit* idempotency keys first used before *before*; return their number."""
    columns = table(IdempotencyKeyRow).primary_key.columns
    old = select(*columns).where(IdempotencyKeyRow.created_at < before).limit(limit)
    rows = session.execute(old).all()
    for row in rows:
        same = and_(*(column == value for column, value in zip(columns, row, strict=True)))
        session.execute(delete(IdempotencyKeyRow).where(same), execution_options=NO_SYNC)
    return len(rows)


def spare_checkpoints(session: Session, *, before: float) -> list[str]:
    """Return the ids of old checkpoints but the best and the last.

    They are of jobs that succeeded before *before*; each role has a best and a last one.
    """
    done = and_(_ended_before(before), JobRow.state == JobState.SUCCEEDED)
    of_jobs = select(ArtifactRow).join(JobRow, JobRow.id == ArtifactRow.job_id)
    query = of_jobs.where(done, ArtifactRow.name.startswith(CHECKPOINTS, autoescape=True))
    lines: dict[tuple[str, str], list[ArtifactRow]] = {}
    for row in session.scalars(query.order_by(ArtifactRow.job_id, ArtifactRow.name)):
        lines.setdefault((row.job_id, row.role), []).append(row)
    return [row.id for line in lines.values() for row in line if row not in {_best(line), _last(line)}]


def _last(line: list[ArtifactRow]) -> ArtifactRow:
    return max(line, key=lambda row: row.metadata_.get("epoch") or 0)


def _best(line: list[ArtifactRow]) -> ArtifactRow:
    return max(line, key=lambda row: (row.metadata_.get("metrics") or {}).get(MAP) or 0.0)


def drop_checkpoints(session: Session, *, before: float, now: float, limit: int = 100) -> int:
    """Delete at most *limit* of those checkpoints; return their number."""
    ids = spare_checkpoints(session, before=before)[:limit]
    return trash.purge_artifacts(session, ArtifactRow.id.in_(ids), now=now)


def plan(session: Session, policy: RetentionPolicy, *, now: float) -> list[RetentionShare]:
    """Return what one round would take now, by kind."""
    shares = [_jobs(session, "jobs to the trash", old_jobs(policy, now=now))]
    sweeps = select(SweepRow.id).where(old_sweeps(policy, now=now))
    shares.append(_count(session, "sweeps to the trash", SweepRow, old_sweeps(policy, now=now)))
    shares.append(_jobs(session, "jobs of those sweeps", JobRow.sweep_id.in_(sweeps)))
    emptied = now - policy.trash_s
    shares.append(_jobs(session, "jobs for good", JobRow.deleted_at < emptied))
    for kind, row in (("artifacts for good", ArtifactRow), ("models for good", ModelRow)):
        size = func.coalesce(func.sum(row.size_bytes), 0)
        number, size_bytes = session.execute(select(func.count(), size).where(row.deleted_at < emptied)).one()
        shares.append(RetentionShare(kind, number, int(size_bytes)))
    for kind, rows, kept_s in (("events", EventRow, policy.events_s), ("metric points", MetricRow, policy.metrics_s)):
        which = rows.job_id.in_(select(JobRow.id).where(_ended_before(now - (kept_s or 0))))
        shares.append(_count(session, kind, rows, false() if kept_s is None else which))
    old = false() if policy.keys_s is None else IdempotencyKeyRow.created_at < now - policy.keys_s
    shares.append(_count(session, "idempotency keys", IdempotencyKeyRow, old))
    spare = [] if policy.checkpoints_s is None else spare_checkpoints(session, before=now - policy.checkpoints_s)
    size = func.coalesce(func.sum(ArtifactRow.size_bytes), 0)
    freed = session.scalar(select(size).where(ArtifactRow.id.in_(spare)))
    shares.append(RetentionShare("checkpoints", len(spare), int(freed or 0)))
    return shares


def _count(session: Session, kind: str, rows: Any, which: Any) -> RetentionShare:
    return RetentionShare(kind, session.scalar(select(func.count()).select_from(rows).where(which)) or 0, 0)


def _jobs(session: Session, kind: str, which: Any) -> RetentionShare:
    """Count jobs, and the bytes of theirs to which no other job or model points."""
    theirs = select(JobRow.id).where(which)
    number = session.scalar(select(func.count()).select_from(JobRow).where(which)) or 0
    inside = select(ArtifactRow.key, func.max(ArtifactRow.size_bytes).label("size"))
    keys = inside.where(ArtifactRow.job_id.in_(theirs)).group_by(ArtifactRow.key).subquery()
    other = ArtifactRow.__table__.alias("other")
    elsewhere = exists().where(other.c.key == keys.c.key, other.c.job_id.not_in(theirs))
    named = exists().where(ModelRow.key == keys.c.key)
    size = session.scalar(select(func.coalesce(func.sum(keys.c.size), 0)).where(~elsewhere, ~named))
    return RetentionShare(kind, number, int(size or 0))
