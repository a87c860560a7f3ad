"""The one transaction in which a run's files are published and its job moves on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retort.db import Database, Lease, artifacts, clock, jobs, recovery, registry
from retort.db.artifacts import NewArtifact
from retort.names import Role
from retort.states import TERMINAL, JobState

from retort_worker.outcome import Outcome
from retort_worker.publisher import Made

_PUBLISHED = TERMINAL | {JobState.AWAITING_REVIEW}


def settle(
    database: Database, lease: Lease, outcome: Outcome, *, made: Made, stored: Sequence[NewArtifact]
) -> JobState | None:
    """Publish and end, fail, cancel, pause, retry, wait for people or hand back, all or nothing.

    Args:
        database: where to write.
        lease: under which to write.
        outcome: how the run ended.
        made: what is announced however the job goes on: its checkpoints, its log, what it can go on from.
        stored: what is announced when the job is over, or people are to look at it.

    Returns:
        The job's new state; None when the lease is no longer held, and nothing was written.

    Raises:
        DatabaseUnavailable: try again, while the lease lasts.

    """
    with database.begin() as session:
        now = clock.now(session)
        resting = JobState.AWAITING_REVIEW if outcome.awaits_review else JobState.QUEUED
        target = jobs.outlook(
            session, lease, succeeded=outcome.result is not None, failure=outcome.failure, now=now, resting=resting
        )  # fmt: skip
        if target is None:
            return None
        if made.saved is not None:
            recovery.record(session, lease, made.saved, now=now)
        for artifact in (*made.artifacts, *stored) if target in _PUBLISHED else made.artifacts:
            artifacts.record(session, lease, artifact, now=now)
        for artifact in stored if target in TERMINAL else ():
            # A teacher is good for other jobs whatever became of this one; a student that nobody has judged is not.
            if target is JobState.SUCCEEDED or artifact.role == Role.TEACHER:
                registry.register_trained(session, lease, artifact, now=now)
        _close(session, lease, outcome, target, now=now)
        return target


def _close(session: Any, lease: Lease, outcome: Outcome, target: JobState, *, now: float) -> None:
    """Bring the job to *target*."""
    code = outcome.exit_code
    if outcome.result is not None:
        jobs.succeed(session, lease, now=now, result=outcome.result, exit_code=code or 0)
    elif target is JobState.CANCELLED:
        jobs.mark_cancelled(session, lease, now=now, exit_code=code)
    elif outcome.awaits_review:
        jobs.await_review(session, lease, now=now, exit_code=code)
    elif outcome.failure is None:
        jobs.hand_back(session, lease, now=now)
    else:
        jobs.fail(session, lease, now=now, failure=outcome.failure, exit_code=code)
