"""Record the journal in SQL with each lease renewal; finish attempts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from retort.confinement import Facts
from retort.constants import Role
from retort.db import Database, DatabaseUnavailable, Lease, artifacts, events, jobs, model_registry, transitions
from retort.db.artifacts import NewArtifact
from retort.db.session import database_now
from retort.protocol import journal
from retort.protocol.events import AnyEvent
from retort.protocol.workdir import journal as journal_of
from retort.states import TERMINAL, JobState

from retort_worker.process import RunOutcome
from retort_worker.uploader import Uploaded
from retort_worker.watchdog import Fence

_log = structlog.get_logger()
_RETRY_S = 0.5


class LeaseLost(Exception):
    """The lease is lost: kill the run, and write nothing more.

    Another worker may own the job by now.
    """


class Recorder:
    """Recorder of one attempt's events in the database, under its lease.

    The journal is the buffer: what could not be written stays there for the next heartbeat.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        workdir: Path,
        *,
        lease_s: float,
        heartbeat_s: float,
        fence: Fence,
        on_event: Callable[[AnyEvent], None],
    ) -> None:
        self._database = database
        self._lease = lease
        self._workdir = workdir
        self._journal = journal_of(workdir, lease.attempt)
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._fence = fence
        self._on_event = on_event
        self._offset = 0
        self._flushed_at = time.monotonic()
        self._not_before = 0.0
        self.desired_state = JobState.RUNNING
        """The state that clients have requested, as of the last renewal."""
        self.finish_early = False
        """Whether the run is to finish early, as of the last renewal."""
        self.renew_only = False
        """The journal is unreadable; only renew the lease."""

    def behind(self) -> bool:
        """Return True if the journal holds whole lines that are not recorded."""
        return self._size() > self._offset and bool(journal.read(self._journal, self._offset)[0])

    def tick(self, uploaded: Uploaded) -> bool:
        """Record new events and files, or renew the lease; True when done.

        *uploaded* holds the files that the uploader has stored; they are announced when True comes back.

        Raises:
            LeaseLost: stop everything.

        """
        if self._fence.expired:
            raise LeaseLost
        now = time.monotonic()
        due = bool(uploaded) or now - self._flushed_at >= self._heartbeat_s or self._size() > self._offset
        if not due or now < self._not_before:
            return False
        try:
            self._flush(uploaded)
        except DatabaseUnavailable as error:
            self._not_before = time.monotonic() + _RETRY_S
            _log.warning("could not record; trying again", job=self._lease.job_id, error=error.message)
            return False
        return True

    def _flush(self, uploaded: Uploaded) -> None:
        started = time.monotonic()
        said, offset = ([], self._offset) if self.renew_only else journal.read(self._journal, self._offset)
        self._write(said, offset, uploaded, started=started)
        self._offset = offset
        self._flushed_at = started
        for event in said:
            self._on_event(event)

    def note_confinement(self, facts: Facts) -> bool:
        """Record how the run is confined; False means try again.

        What is missing is logged as a warning.

        Raises:
            LeaseLost: stop everything.

        """
        told = {"mode": facts.mode, "in_force": list(facts.in_force), "missing": dict(facts.missing)}
        try:
            with self._database.begin() as session:
                if not events.note_confinement(session, self._lease, told):
                    raise LeaseLost
                if facts.missing:
                    data = {"code": "confinement", **told}
                    events.log(session, self._lease, facts.sentence, "warning", database_now(session), data=data)
        except DatabaseUnavailable:
            return False
        return True

    def log(self, message: str, level: str) -> bool:
        """Record a log event from the worker; False means try again.

        Raises:
            LeaseLost: stop everything.

        """
        try:
            with self._database.begin() as session:
                if not events.log(session, self._lease, message, level, database_now(session)):
                    raise LeaseLost
        except DatabaseUnavailable:
            return False
        return True

    def catch_up(self) -> None:
        """Record what earlier attempts wrote to their journals, then replay all.

        Their worker may have ended before it recorded the last events. All events of earlier attempts go to *on_event*.

        Raises:
            LeaseLost: stop everything.
            DatabaseUnavailable: try again; nothing is doubled.

        """
        if self._lease.attempt == 1:
            return
        with self._database.read() as session:
            recorded = {row.number: row.journal_offset for row in jobs.attempts_of_job(session, self._lease.job_id)}
        earlier = [(number, journal_of(self._workdir, number)) for number in range(1, self._lease.attempt)]
        told: list[AnyEvent] = []
        for number, path in earlier:
            said, offset = journal.read(path, recorded.get(number, 0)) if path.exists() else ([], 0)
            if said:
                self._write(said, offset, Uploaded(), started=time.monotonic(), attempt=number)
            told.extend(journal.read(path)[0])
        for event in told:
            self._on_event(event)

    def _write(
        self,
        said: Sequence[AnyEvent],
        offset: int,
        uploaded: Uploaded,
        *,
        started: float,
        attempt: int | None = None,
    ) -> None:
        with self._database.begin() as session:
            now = database_now(session)
            renewal = events.record(
                session, self._lease, said, now=now, lease_s=self._lease_s, journal_offset=offset, attempt=attempt
            )
            if renewal is None:
                raise LeaseLost
            for artifact in uploaded.artifacts:
                artifacts.record(session, self._lease, artifact, now=now)
            if uploaded.saved is not None:
                artifacts.record_recovery(session, self._lease, uploaded.saved, now=now)
        self._fence.renewed(started)
        self.desired_state = renewal.state
        self.finish_early = renewal.finish_early

    def _size(self) -> int:
        try:
            return self._offset if self.renew_only else self._journal.stat().st_size
        except FileNotFoundError:
            return 0


_PUBLISHED = TERMINAL | {JobState.AWAITING_REVIEW}


def finish_attempt(
    database: Database, lease: Lease, outcome: RunOutcome, *, uploaded: Uploaded, stored: Sequence[NewArtifact]
) -> JobState | None:
    """End the attempt: move the job and publish its files, atomically.

    The job succeeds, fails, is cancelled, paused, retried or handed back, or waits for its review.

    Args:
        database: where to write.
        lease: under which to write.
        outcome: how the run ended.
        uploaded: what is announced however the job goes on: its checkpoints, its log, what it can go on from.
        stored: what is announced when the job is over, or people are to look at it.

    Returns:
        The job's new state; None when the lease is no longer held, and nothing was written.

    Raises:
        DatabaseUnavailable: try again, while the lease lasts.

    """
    with database.begin() as session:
        now = database_now(session)
        resting = JobState.AWAITING_REVIEW if outcome.awaits_review else JobState.QUEUED
        target = transitions.plan(
            session, lease, succeeded=outcome.result is not None, failure=outcome.failure, now=now, resting=resting
        )  # fmt: skip
        if target is None:
            return None
        if uploaded.saved is not None:
            artifacts.record_recovery(session, lease, uploaded.saved, now=now)
        for artifact in (*uploaded.artifacts, *stored) if target in _PUBLISHED else uploaded.artifacts:
            artifacts.record(session, lease, artifact, now=now)
        for artifact in stored if target in TERMINAL else ():
            # A teacher is good for other jobs whatever became of this one; a student that nobody has judged is not.
            if target is JobState.SUCCEEDED or artifact.role == Role.TEACHER:
                model_registry.register_trained(session, lease, artifact, now=now)
        _close(session, lease, outcome, target, now=now)
        return target


def _close(session: Any, lease: Lease, outcome: RunOutcome, target: JobState, *, now: float) -> None:
    """Bring the job to *target*."""
    code = outcome.exit_code
    if outcome.result is not None:
        transitions.succeed(session, lease, now=now, result=outcome.result, exit_code=code or 0)
    elif target is JobState.CANCELLED:
        transitions.mark_cancelled(session, lease, now=now, exit_code=code)
    elif outcome.awaits_review:
        transitions.await_review(session, lease, now=now, exit_code=code)
    elif outcome.failure is None:
        transitions.hand_back(session, lease, now=now)
    else:
        transitions.fail(session, lease, now=now, failure=outcome.failure, exit_code=code)
