"""Claim queued jobs in fair order, and reap expired leases."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy import BindParameter, Select, bindparam, false, func, or_, select, text, true, update
from sqlalchemy.orm import Session

from retort.db import quotas, transitions, webhooks
from retort.db.models import AttemptRow, EventRow, JobRow, TransitionRow
from retort.db.session import add, table
from retort.db.transitions import Lease
from retort.protocol.events import RunFailure
from retort.states import ACTIVE, AttemptState, JobState

# Statements are built once: that takes several times as long as running them.
_JOBS = table(JobRow).c
_WAITING = _JOBS.state == JobState.QUEUED
_OF_PRIORITY = (_WAITING, _JOBS.priority == bindparam("priority"))
_HIGHEST = select(func.max(_JOBS.priority)).where(_WAITING)
_NEXT_HIGHEST = _HIGHEST.where(_JOBS.priority < bindparam("priority"))
_ACTIVE = select(_JOBS.owner, func.count().label("number")).where(_JOBS.state.in_(ACTIVE)).group_by(_JOBS.owner)


OnCpu = Literal["unless_gpu_required", "if_spec_allows"]
_ON_CPU = {
    "unless_gpu_required": _JOBS.require_gpu.is_not(true()),
    "if_spec_allows": _JOBS.require_gpu.is_(false()),
}
_Terms = tuple[bool, OnCpu | None]
"""What a worker takes: whether only jobs within a number of GPUs, and which jobs on a CPU."""


@dataclass(frozen=True, slots=True)
class ClaimableJob:
    """A job that may be claimed now, if nobody is faster."""

    job_id: str
    gpus: int
    """How many it needs."""


def claimable(
    session: Session, *, now: float, gpus: int | None = None, on_cpu: OnCpu | None = None, number: int = 1
) -> list[ClaimableJob]:
    """Return the jobs that a worker may claim, in trying order.

    They are the oldest jobs of each owner at the highest priority that has any to claim. The owner with the fewest jobs
    on workers comes first, those counted that would have been claimed by then. Jobs that need more than *gpus*, if
    given, are left out, as are those whose retry has to wait.

    Args:
        session: any.
        now: by the database's clock.
        gpus: how many a job may need.
        on_cpu: which jobs a worker that trains on its CPU may take; None is for one that does not.
        number: how many jobs are wanted; there are fewer when no more wait at that priority, and more where there are
            more owners.

    """
    left = quotas.running_left(session, now=now)
    full = [project for project, number in left.items() if not number]
    about: dict[str, Any] = {"now": now, "gpus": gpus, "full": full}
    terms = (gpus is not None, on_cpu)
    priority = session.scalar(_HIGHEST)
    while priority is not None:
        heads = session.execute(_heads(terms), {**about, "priority": priority}).all()
        if heads:
            return _dealt(session, heads, {**about, "priority": priority, "number": number}, terms, left)
        priority = session.scalar(_NEXT_HIGHEST, {"priority": priority})
    return []


def may_be_claimed(now: Any) -> tuple[Any, ...]:
    """Return the conditions for a claim, beside the job's state.

    The job's retry need not wait any more, and it has not waited for too long.
    """
    return (_JOBS.claimable_at <= now, or_(_JOBS.expires_at.is_(None), _JOBS.expires_at > now))


def _dealt(
    session: Session, heads: Sequence[Any], about: Mapping[str, Any], terms: _Terms, left: dict[str, int]
) -> list[ClaimableJob]:
    """Deal the owners' jobs: the next one is always of the owner who would have the fewest on workers."""
    active = {row.owner: row.number for row in session.execute(_ACTIVE)} if len(heads) > 1 else {}
    turns = [(active.get(head.owner, 0), head.id, head, _behind(session, head, about, terms)) for head in heads]
    heapq.heapify(turns)
    dealt: list[ClaimableJob] = []
    while turns:
        share, _, row, line = heapq.heappop(turns)
        room = left.get(row.project, 1)
        if room:
            dealt.append(ClaimableJob(row.id, row.gpus))
        if row.project in left:
            left[row.project] = max(0, room - 1)
        following = next(line, None) if len(dealt) < about["number"] else None
        if following is not None:
            heapq.heappush(turns, (share + bool(room), following.id, following, line))
    return dealt


def _behind(session: Session, head: Any, about: Mapping[str, Any], terms: _Terms) -> Iterator[Any]:
    """Yield the jobs of an owner that come after the oldest, which are read only where one is asked for."""
    yield from session.execute(_oldest(terms), {**about, "owner": head.owner}).all()[1:]


@cache
def _oldest(terms: _Terms) -> Select[Any]:
    """Select the oldest claimable jobs of one owner and priority that meet the worker's *terms*."""
    query = select(_JOBS.id, _JOBS.owner, _JOBS.project, _JOBS.gpus).where(*_line(bindparam("owner"), terms))
    return query.order_by(_JOBS.id).limit(bindparam("number"))


@cache
def _heads(terms: _Terms) -> Select[Any]:
    """Select each owner's oldest claimable job of one priority that meets the worker's *terms*."""
    owners, head = _owners(), table(JobRow).alias("head").c
    oldest = select(func.min(_JOBS.id)).where(*_line(owners.c.owner, terms)).scalar_subquery()
    ids = select(oldest.label("id")).where(owners.c.owner.is_not(None)).subquery()
    return select(head.id, head.owner, head.project, head.gpus).join(ids, head.id == ids.c.id)


def _line(owner: Any, terms: _Terms) -> tuple[Any, ...]:
    """Return the conditions of the jobs in one owner's line."""
    limited, on_cpu = terms
    fits = (_JOBS.gpus <= bindparam("gpus"),) if limited else ()
    may = () if on_cpu is None else (_ON_CPU[on_cpu],)
    open_to = _JOBS.project.not_in(bindparam("full", expanding=True))
    return (*_OF_PRIORITY, _JOBS.owner == owner, open_to, *may_be_claimed(bindparam("now")), *fits, *may)


def _owners() -> Any:
    """Name the owners with waiting jobs, hopping from one to the next over the index, however many jobs each has."""
    first = select(func.min(_JOBS.owner).label("owner")).where(*_OF_PRIORITY)
    known = first.cte("owners", recursive=True)
    following = select(func.min(_JOBS.owner)).where(*_OF_PRIORITY, _JOBS.owner > known.c.owner).scalar_subquery()
    return known.union_all(select(following).where(known.c.owner.is_not(None)))


_JOB = table(JobRow)
_AT: BindParameter[float] = bindparam("at")
_NAMED = _JOB.c.id.in_(bindparam("ids", expanding=True))
# Two statements: in one, PostgreSQL may lock the rows anew for each that it changes.
_FREE = (
    select(_JOB.c.id, _JOB.c.project)
    .where(_NAMED, _JOB.c.state == JobState.QUEUED, *may_be_claimed(_AT))
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(_JOB)
    .where(_NAMED)
    .values(
        state=JobState.RUNNING, version=_JOB.c.version + 1, last_seq=_JOB.c.last_seq + 1,
        attempt=_JOB.c.attempt + 1, fence=_JOB.c.fence + 1, worker=bindparam("by"), lease_until=bindparam("until"),
        claimed_at=_AT, started_at=func.coalesce(_JOB.c.started_at, _AT),
        expires_at=None, stage=None, progress=0.0, eta_s=None,
    )
    .returning(
        _JOB.c.id, _JOB.c.attempt, _JOB.c.fence, _JOB.c.last_seq, _JOB.c.spec, _JOB.c.run_s, _JOB.c.adjustments,
        _JOB.c.recovery, _JOB.c.parent_id, _JOB.c.project,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker now holds, with its data.

    They are what the worker must know of it.
    """

    lease: Lease
    spec: Mapping[str, Any]
    ran_s: float
    """How long earlier attempts ran."""
    adjustments: Mapping[str, Any] | None
    recovery: Mapping[str, Any] | None
    parent_id: str | None
    """The job that this one repeats."""
    project: str


def claim(
    session: Session, job_id: str, *, worker: str, host: str, now: float, lease_s: float, device: str | None = None
) -> Lease | None:
    """Claim the job for *worker* until ``now + lease_s``.

    None when it is not to be claimed (any more).
    """
    claims = claim_all(session, {job_id: device}, worker=worker, host=host, now=now, lease_s=lease_s)
    return claims[0].lease if claims else None


def claim_all(
    session: Session, wanted: Mapping[str, str | None], *, worker: str, host: str, now: float, lease_s: float
) -> list[Claim]:
    """Claim the jobs *wanted* until ``now + lease_s``.

    Of these, what may be claimed is taken, each for its device. A job that another transaction is writing at this
    moment is passed over, so that workers which look at the same jobs wait neither for each other nor in a circle.
    """
    connection = session.connection()
    free = {row.id: row.project for row in connection.execute(_FREE, {"ids": list(wanted), "at": now})}
    ids = quotas.within_limits(session, free, now=now) if free else []
    if not ids:
        return []
    rows = connection.execute(_TAKE, {"ids": ids, "by": worker, "at": now, "until": now + lease_s}).all()
    claims, begun, entered, told = [], [], [], []
    for row in rows:
        lease = Lease(row.id, row.attempt, row.fence, worker)
        claims.append(Claim(lease, row.spec, row.run_s, row.adjustments, row.recovery, row.parent_id, row.project))
        begun.append(transitions.attempt_row(lease, host=host, device=wanted[row.id], now=now))
        running = TransitionRow.row(
            row.id, JobState.RUNNING, attempt=row.attempt, now=now, actor=f"worker:{worker}", reason=None
        )
        entered.append(running)
        told.append(EventRow.of_transition(running, seq=row.last_seq))
    add(session, AttemptRow, begun)
    add(session, TransitionRow, entered)
    add(session, EventRow, told)
    webhooks.announce(session, entered)
    return claims


@dataclass(frozen=True, slots=True)
class ReapedJob:
    """A job that was moved, and the state it went to."""

    job_id: str
    state: JobState


def reap(session: Session, *, now: float, limit: int = 100) -> list[ReapedJob]:
    """Take jobs from workers whose leases ran out before *now*.

    At most *limit* are taken; call again until none is left.
    """
    columns = select(JobRow.id, JobRow.attempt, JobRow.fence, JobRow.worker, JobRow.lease_until)
    query = columns.where(JobRow.state.in_(ACTIVE), JobRow.lease_until < now).order_by(JobRow.id).limit(limit)
    # A row that is locked is being renewed, ended or reaped at this moment.
    lost = session.execute(query.with_for_update(skip_locked=True)).all()
    reaped = []
    for job_id, attempt, fence, worker, lease_until in lost:
        assert worker is not None, "active jobs have a worker"
        failure = RunFailure(
            code="lost_worker",
            message=f"the worker {worker} stopped renewing its lease",
            hint="look for what ended the worker or cut it off from the database; the job need not change",
            retryable=True,
        )
        state = transitions.release(
            session, Lease(job_id, attempt, fence, worker), AttemptState.LOST,
            now=now, actor="reaper", failure=failure, alive_until=lease_until,
        )  # fmt: skip
        assert state is not None, "the row is locked"
        reaped.append(ReapedJob(job_id, state))
    return reaped


def wake(session: Session, *, idle_s: float) -> int:
    """End transactions whose clients fell asleep *idle_s* ago; return their number.

    Those asleep in mid-statement are ended, too. Such transactions hold their jobs' rows, which ``reap`` must skip.
    PostgreSQL's own timeout for idle transactions counts a client that stopped in the middle of a message as active,
    and (seen in 15) forgets one whose last statements were pipelined, as those of an executemany are. On SQLite nothing
    can be done about such a client.
    """
    if session.get_bind().dialect.name != "postgresql":
        return 0
    return sum(session.execute(_END_SLEEPERS, {"idle_s": idle_s}).scalars())


_END_SLEEPERS = text(
    "SELECT pg_terminate_backend(pid)::int FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND pid <> pg_backend_pid() AND wait_event = 'ClientRead' AND state <> 'idle' "
    "AND state_change < clock_timestamp() - make_interval(secs => :idle_s)"
)


def expire(session: Session, *, now: float, limit: int = 100) -> list[ReapedJob]:
    """Give up jobs that waited longer than their specs allow.

    At most *limit* are given up; call again until none is left.
    """
    late = (
        select(JobRow.id).where(JobRow.expires_at <= now, JobRow.state == JobState.QUEUED).order_by(JobRow.expires_at)
    )
    ids = session.scalars(late.limit(limit).with_for_update(skip_locked=True)).all()
    failure = RunFailure(
        code="expired",
        message="no worker took the job within resources.max_queue_s, or within what the operator allows",
        hint="start more workers, or allow more time; POST …/retry queues it again",
    )
    for job_id in ids:
        changed = transitions.apply(
            session, job_id, JobState.EXPIRED, now=now, actor="reaper", reason="max_queue_s",
            expires_at=None, finished_at=now, failure=failure.model_dump(mode="json"),
        )  # fmt: skip
        assert changed is not None, "the row is locked"
    return [ReapedJob(job_id, JobState.EXPIRED) for job_id in ids]
