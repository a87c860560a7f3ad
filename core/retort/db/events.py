"""Store the events of jobs, numbered without gaps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from retort.constants import MAP, MAP50, Role
from retort.db.models import WARNED, AttemptRow, EventRow, JobRow, MetricRow, TransitionRow
from retort.db.session import add, add_or_replace, table
from retort.db.transitions import HELD, Lease, Renewal, held_by, lock
from retort.protocol.events import (
    AnyEvent,
    ArtifactEvent,
    FinishedEvent,
    HealthEvent,
    LogEvent,
    MetricEvent,
    ProgressEvent,
    SavedEvent,
    StageEvent,
)

_JOBS, _ATTEMPTS, _EVENTS = table(JobRow), table(AttemptRow), table(EventRow)
_NUMBER = update(_JOBS).where(HELD).values(last_seq=_JOBS.c.last_seq + 1).returning(_JOBS.c.last_seq)
_RECORDED = select(_EVENTS.c.n).where(
    _EVENTS.c.job_id == bindparam("job"),
    _EVENTS.c.attempt == bindparam("attempt"),
    _EVENTS.c.n.between(bindparam("first"), bindparam("last")),
)
_READ = (
    update(_ATTEMPTS)
    .where(
        _ATTEMPTS.c.job_id == bindparam("job"),
        _ATTEMPTS.c.number == bindparam("attempt"),
        _ATTEMPTS.c.journal_offset < bindparam("offset"),
    )
    .values(journal_offset=bindparam("offset"))
)
_POINT = ("job_id", "role", "name", "step", "attempt")
_COLUMNS = {"n", "at", "type", "level", "message"}
_LEVELS = {"healthy": "info", "warning": "warning", "critical": "error"}
"""How loud a verdict is."""
_WARNED = frozenset({"warning", "error"})
"""Levels that have an index of their own."""


def record(
    session: Session,
    lease: Lease,
    events: Sequence[AnyEvent],
    *,
    now: float,
    lease_s: float,
    journal_offset: int,
    attempt: int | None = None,
) -> Renewal | None:
    """Record the run's events and renew the lease, all or nothing.

    Lines that are recorded already are ignored. Artifacts and saved states are not announced here but where they are
    brought into the store.

    Args:
        session: a write transaction.
        lease: under which the worker writes.
        events: lines of one attempt's journal.
        now: by the database's clock.
        lease_s: how long the lease is to last from *now*.
        journal_offset: bytes of the journal that are recorded after this.
        attempt: whose journal it is, when it is not the lease's own.

    Returns:
        None when the lease is no longer held; then nothing is written.

    """
    job = lock(session, lease)
    if job is None:
        return None
    number = lease.attempt if attempt is None else attempt
    fresh = _unrecorded(session, lease.job_id, number, events)
    seen = _seen(fresh, job.best, present=number == lease.attempt)
    last_seq: int = job.last_seq + len(fresh)
    changed: dict[str, Any] = {"lease_until": now + lease_s, "last_seq": last_seq, **seen}
    if seen or any(isinstance(event, StageEvent) for event in fresh):
        changed["version"] = _JOBS.c.version + 1
    session.connection().execute(update(_JOBS).where(HELD).values(**changed), held_by(lease))
    rows = [_row(lease.job_id, number, seq, event) for seq, event in enumerate(fresh, job.last_seq + 1)]
    add(session, EventRow, rows)
    add(session, TransitionRow, [_stage(lease, number, event) for event in fresh if isinstance(event, StageEvent)])
    _add_points(session, lease.job_id, number, [event for event in fresh if isinstance(event, MetricEvent)])
    session.connection().execute(_READ, {"job": lease.job_id, "attempt": number, "offset": journal_offset})
    return Renewal(last_seq, job.state, finish_early=job.finish_early)


def list_after(session: Session, job_id: str, seq: int, limit: int) -> list[EventRow]:
    """Return at most *limit* of the job's events after *seq*.

    Their numbers are above *seq*, in order.
    """
    query = select(EventRow).where(EventRow.job_id == job_id, EventRow.seq > seq)
    return list(session.scalars(query.order_by(EventRow.seq).limit(limit)))


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which of a job's events are wanted."""

    types: Collection[str] = ()
    """Empty for all."""
    levels: Collection[str] = ()
    """Empty for all, also for those without a level."""
    words: str = ""
    """Each of them stands in the message, in whatever case."""
    before: int | None = None
    """Only events with a smaller number."""
    since: int | None = None
    """Only events with this number or a larger one."""


def latest(session: Session, job_id: str, wanted: EventFilter, limit: int) -> list[EventRow]:
    """Return the job's newest events that are *wanted*, at most *limit*, in order."""
    where: list[Any] = [EventRow.job_id == job_id]
    where += [EventRow.type.in_(wanted.types)] if wanted.types else []
    where += [EventRow.level.in_(wanted.levels)] if wanted.levels else []
    where += [WARNED] if wanted.levels and _WARNED.issuperset(wanted.levels) else []
    where += [EventRow.message.icontains(word, autoescape=True) for word in wanted.words.split()]
    where += [EventRow.seq < wanted.before] if wanted.before is not None else []
    where += [EventRow.seq >= wanted.since] if wanted.since is not None else []
    found = list(session.scalars(select(EventRow).where(*where).order_by(EventRow.seq.desc()).limit(limit)))
    return found[::-1]


def log(
    session: Session, lease: Lease, message: str, level: str, now: float, *, data: Mapping[str, Any] | None = None
) -> bool:
    """Write a log event of the worker under its lease.

    False when the lease is no longer held.
    """
    seq = next_seq(session, lease)
    if seq is None:
        return False
    append(
        session, lease.job_id, seq=seq, attempt=lease.attempt, kind="log", at=now, level=level, message=message,
        data=dict(data or {}),
    )  # fmt: skip
    return True


def note_confinement(session: Session, lease: Lease, confinement: Mapping[str, Any]) -> bool:
    """Record how the attempt's run is confined.

    False when the lease is no longer held.
    """
    if lock(session, lease) is None:
        return False
    attempt = (AttemptRow.job_id == lease.job_id, AttemptRow.number == lease.attempt)
    session.execute(update(AttemptRow).where(*attempt).values(confinement=dict(confinement)))
    return True


def next_seq(session: Session, lease: Lease) -> int | None:
    """Take the next event number under the lease, or None.

    None when the lease is no longer held.
    """
    return session.connection().execute(_NUMBER, held_by(lease)).scalar_one_or_none()


def append(
    session: Session,
    job_id: str,
    *,
    seq: int,
    attempt: int,
    kind: str,
    at: float,
    data: dict[str, Any] | None = None,
    level: str | None = None,
    message: str | None = None,
) -> None:
    """Write one event of the service.

    The caller has taken its number.
    """
    row = {"job_id": job_id, "seq": seq, "attempt": attempt, "n": None, "type": kind, "at": at}
    add(session, EventRow, [{**row, "data": data or {}, "level": level, "message": message and sanitize(message)}])


def sanitize(text: str) -> str:
    """Replace characters that PostgreSQL refuses: NUL, and halves of surrogate pairs."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _unrecorded(session: Session, job_id: str, number: int, events: Sequence[AnyEvent]) -> list[AnyEvent]:
    wanted = {event.n: event for event in events if not isinstance(event, ArtifactEvent | SavedEvent)}
    if not wanted:
        return []
    about = {"job": job_id, "attempt": number, "first": min(wanted), "last": max(wanted)}
    recorded = set(session.connection().execute(_RECORDED, about).scalars())
    return [wanted[n] for n in sorted(wanted) if n not in recorded]


def _seen(events: Sequence[AnyEvent], best: dict[str, Any] | None, *, present: bool) -> dict[str, Any]:
    """Return what the events change on the job; where the job stands is told by its present attempt only."""
    seen: dict[str, Any] = {}
    for event in events:
        if isinstance(event, StageEvent) and present:
            seen["stage"] = event.stage
        elif isinstance(event, ProgressEvent) and present:
            seen |= {"progress": event.progress, "eta_s": event.eta_s}
        elif isinstance(event, MetricEvent) and event.role is Role.STUDENT:
            score = event.values.get(MAP)
            # Of equal epochs the later one, which is what a training keeps.
            if score is not None and (best is None or score >= best[MAP]):
                best = {"role": event.role.value, "epoch": event.step, MAP50: event.values.get(MAP50), MAP: score}
                seen["best"] = best
    return seen


def _row(job_id: str, number: int, seq: int, event: AnyEvent) -> dict[str, Any]:
    row = {"job_id": job_id, "seq": seq, "attempt": number, "n": event.n, "type": event.type, "at": event.at}
    if isinstance(event, LogEvent):
        return {**row, "level": event.level, "message": sanitize(event.message), "data": event.data}
    if isinstance(event, HealthEvent):
        data = event.model_dump(mode="json", exclude=_COLUMNS)
        return {**row, "level": _LEVELS[event.verdict], "message": sanitize(event.message), "data": data}
    # The result of a finished run is on the job.
    data = {} if isinstance(event, FinishedEvent) else event.model_dump(mode="json", exclude=_COLUMNS)
    return {**row, "level": None, "message": None, "data": data}


def _add_points(session: Session, job_id: str, attempt: int, events: Sequence[MetricEvent]) -> None:
    """Insert the events' values; a step measured twice by one attempt keeps the later value."""
    rows = {
        (event.role, name, event.step): {
            "job_id": job_id,
            "role": event.role.value,
            "name": name,
            "step": event.step,
            "attempt": attempt,
            "value": value,
            "at": event.at,
        }
        for event in events
        for name, value in event.values.items()
    }
    add_or_replace(session, MetricRow, list(rows.values()), key=_POINT, keep=())


def _stage(lease: Lease, number: int, event: StageEvent) -> dict[str, Any]:
    row = {"job_id": lease.job_id, "kind": "stage", "name": event.stage, "at": event.at, "attempt": number}
    return {**row, "actor": f"worker:{lease.worker}", "reason": None}
