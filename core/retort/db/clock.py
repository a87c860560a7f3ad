"""Absorb steps of the database's clock, and suspends of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from retort.db.identity_models import KeyRow
from retort.db.models import (
    ArtifactRow,
    AttemptRow,
    Base,
    DatasetRow,
    GarbageRow,
    IdempotencyKeyRow,
    InstallationRow,
    JobRow,
    ModelRow,
    PredictionRow,
    SweepRow,
    SweepTrialRow,
    UploadRow,
    WorkerRow,
)
from retort.db.session import NO_SYNC, Database, DatabaseUnavailable, add_or_ignore, database_now
from retort.db.webhook_models import DeliveryRow, WebhookRow
from retort.db.webhooks import BACKOFF_S
from retort.states import ACTIVE, LIVE_SWEEPS, TERMINAL, AttemptState, DatasetState, JobState

_STEPS = "clock_steps"
"""Fact of the installation: how many steps have been absorbed."""
_TOLERANCE = 0.25
"""Part of a lease by which clocks may differ from one look to the next."""
_READINGS = 3
"""So often the clocks are read until they were read together."""
_LONGEST_PAUSE_S = 600.0
"""Longest pause before a retry."""


def boottime() -> float:
    """Return the seconds since the machine started, suspended ones included."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True, slots=True)
class ClockChange:
    """Difference of the clocks since the last look."""

    step_s: float
    """The database's clock was set forward by so much; negative is back."""
    suspended_s: float
    """This machine slept for so long."""


@dataclass(slots=True)
class _Reading:
    steps: int
    wall: float
    monotonic: float
    boottime: float


class ClockWatch:
    """Watch of the database's clock beside this machine's own."""

    def __init__(
        self,
        lease_s: float,
        *,
        wall: Callable[[Session], float] = database_now,
        monotonic: Callable[[], float] = time.monotonic,
        boottime: Callable[[], float] = boottime,
    ) -> None:
        self._lease_s = lease_s
        self._tolerance_s = lease_s * _TOLERANCE
        self._wall = wall
        self._monotonic = monotonic
        self._boottime = boottime
        self._last: _Reading | None = None

    def look(self, database: Database) -> ClockChange | None:
        """Compare the clocks; absorb what differs, once for all watches of this database.

        A change comes back where this watch saw one: leases that look as if they had run out are then renewed once, so
        that live workers can renew them, and nobody reaps in this look.

        Raises:
            DatabaseUnavailable: the clocks could not be read together, or the change not be absorbed; the next look
                sees it again.

        """
        seen, last = self._read(database), self._last
        change = None if last is None else self._change(last, seen)
        if last is None or change:
            with database.begin() as session:
                if last and change:
                    self._absorb(session, change, known=last.steps)
                    seen.steps = _steps(session)
                end_strayed(session, now=seen.wall, lease_s=self._lease_s)
                if change:
                    renew_expired(session, now=seen.wall, lease_s=self._lease_s)
        self._last = seen  # only now: a change whose transaction failed is still to come
        return change

    def _read(self, database: Database) -> _Reading:
        """Read all clocks at nearly the same time.

        Whoever is stopped, swapped out or kept waiting between two clocks would take that pause for a step of one of
        them, and move the times of every job by it: such a reading is taken again.
        """
        for _ in range(_READINGS):
            began = self._boottime()
            monotonic = self._monotonic()
            with database.autocommit_read() as session:
                steps = _steps(session)  # before the wall's time: a step that it shows may be absorbed after
                wall = self._wall(session)
            width_s = self._boottime() - began
            if width_s <= self._tolerance_s / 2:
                return _Reading(steps, wall, monotonic, began)
        raise DatabaseUnavailable(f"the database took {width_s:.1f} s to tell the time; nothing is reaped by it")

    def _change(self, last: _Reading, seen: _Reading) -> ClockChange | None:
        slept = (seen.boottime - last.boottime) - (seen.monotonic - last.monotonic)
        change = ClockChange((seen.wall - last.wall) - (seen.boottime - last.boottime), slept)
        found = abs(change.step_s) > self._tolerance_s or slept > self._tolerance_s
        return change if found else None

    def _absorb(self, session: Session, change: ClockChange, *, known: int) -> None:
        shift = change.step_s if abs(change.step_s) > self._tolerance_s else 0.0
        # On SQLite the database sleeps with this machine, and with it every worker.
        if change.suspended_s > self._tolerance_s and session.get_bind().dialect.name == "sqlite":
            shift += change.suspended_s
        if shift and _claim_step(session, known):
            shift_times(session, shift)


def _steps(session: Session) -> int:
    value = session.scalar(select(InstallationRow.value).where(InstallationRow.name == _STEPS))
    return int(value or 0)


def _claim_step(session: Session, known: int) -> bool:
    """Return True for the first watch that absorbs a step."""
    add_or_ignore(session, InstallationRow, {"name": _STEPS, "value": "0"})
    mine = update(InstallationRow).where(InstallationRow.name == _STEPS, InstallationRow.value == str(known))
    claimed = mine.values(value=str(known + 1)).returning(InstallationRow.name)
    return session.execute(claimed, execution_options=NO_SYNC).one_or_none() is not None


_DAY_S = 86_400.0
"""From such steps on the ages of what has ended move, too: retention is in days, and would take what is not old."""


@dataclass(frozen=True, slots=True)
class _Moved:
    """Times of a table that follow a step, so that what is left of them stays as it was."""

    row: type[Base]
    columns: tuple[str, ...]
    which: ColumnElement[bool] | None = None
    """Of these rows; None is of all."""


def _moved() -> tuple[_Moved, ...]:
    unfinished = ("created_at", "started_at", "claimed_at", "claimable_at", "expires_at", "lease_until")
    checking = DatasetRow.state.in_((DatasetState.UPLOADING, DatasetState.CHECKING))
    return (
        _Moved(JobRow, unfinished, JobRow.state.not_in(TERMINAL)),
        _Moved(JobRow, ("deleted_at",), JobRow.deleted_at.is_not(None)),
        _Moved(AttemptRow, ("started_at",), AttemptRow.state == AttemptState.RUNNING),
        _Moved(SweepRow, ("created_at",), SweepRow.state.in_(LIVE_SWEEPS)),
        _Moved(SweepRow, ("deleted_at",), SweepRow.deleted_at.is_not(None)),
        _Moved(SweepTrialRow, ("begun_at",), SweepTrialRow.ended_at.is_(None)),
        _Moved(ArtifactRow, ("deleted_at",), ArtifactRow.deleted_at.is_not(None)),
        _Moved(ModelRow, ("deleted_at",), ModelRow.deleted_at.is_not(None)),
        _Moved(IdempotencyKeyRow, ("created_at",)),
        _Moved(WorkerRow, ("started_at", "seen_at", "left_at", "drained_at")),
        _Moved(GarbageRow, ("at",)),
        _Moved(UploadRow, ("created_at", "touched_at", "lease_until")),
        _Moved(DatasetRow, ("created_at", "lease_until"), checking),
        _Moved(DatasetRow, ("deleted_at",), DatasetRow.deleted_at.is_not(None)),
        _Moved(PredictionRow, ("created_at", "claimed_at")),
        _Moved(WebhookRow, ("old_secret_until",), WebhookRow.old_secret_until.is_not(None)),
        _Moved(DeliveryRow, ("next_at", "created_at"), DeliveryRow.next_at.is_not(None)),
        _Moved(KeyRow, ("expires_at",), KeyRow.kind != "key"),  # that of a key is a date that somebody was told
    )


def _moved_by_days() -> tuple[_Moved, ...]:
    return (
        _Moved(JobRow, ("created_at", "started_at", "claimed_at", "finished_at"), JobRow.state.in_(TERMINAL)),
        _Moved(AttemptRow, ("started_at", "ended_at"), AttemptRow.state != AttemptState.RUNNING),
        _Moved(SweepRow, ("created_at", "finished_at"), SweepRow.state.not_in(LIVE_SWEEPS)),
        _Moved(SweepTrialRow, ("begun_at", "ended_at"), SweepTrialRow.ended_at.is_not(None)),
        _Moved(DeliveryRow, ("created_at", "ended_at"), DeliveryRow.next_at.is_(None)),
    )


def shift_times(session: Session, by_s: float) -> None:
    """Move the times of all that waits, runs or runs out by *by_s* seconds."""
    for moved in (*_moved(), *(_moved_by_days() if abs(by_s) >= _DAY_S else ())):
        columns = {name: getattr(moved.row, name) + by_s for name in moved.columns}
        change = update(moved.row).values(columns)
        session.execute(change if moved.which is None else change.where(moved.which), execution_options=NO_SYNC)


def end_strayed(session: Session, *, now: float, lease_s: float) -> None:
    """Shorten leases and pauses that end far in the future."""
    far = (JobRow.state.in_(ACTIVE), JobRow.lease_until > now + 2 * lease_s)
    session.execute(update(JobRow).where(*far).values(lease_until=now + lease_s), execution_options=NO_SYNC)
    pausing = (JobRow.state == JobState.QUEUED, JobRow.claimable_at > now + _LONGEST_PAUSE_S)
    session.execute(update(JobRow).where(*pausing).values(claimable_at=now), execution_options=NO_SYNC)
    for row in (DatasetRow, UploadRow):
        held = row.lease_until > now + 2 * lease_s
        session.execute(update(row).where(held).values(lease_until=now + lease_s), execution_options=NO_SYNC)
    waiting = DeliveryRow.next_at > now + 2 * max(BACKOFF_S)
    session.execute(update(DeliveryRow).where(waiting).values(next_at=now), execution_options=NO_SYNC)


def renew_expired(session: Session, *, now: float, lease_s: float) -> None:
    """Renew leases that have run out.

    Whoever lives renews within that time, and whoever does not is reaped after it: a longer lease than a worker knows
    of does no harm.
    """
    expired = (JobRow.state.in_(ACTIVE), JobRow.lease_until < now)
    session.execute(update(JobRow).where(*expired).values(lease_until=now + lease_s), execution_options=NO_SYNC)
    for row in (DatasetRow, UploadRow):
        session.execute(
            update(row).where(row.lease_until < now).values(lease_until=now + lease_s), execution_options=NO_SYNC
        )
