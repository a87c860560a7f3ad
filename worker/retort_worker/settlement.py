"""The one transaction in which a run's files are published and its job moves on."""

from __future__ import annotations

from collections.abc import Sequence

from retort.db import Database, Lease, artifacts, clock, jobs
from retort.db.artifacts import NewArtifact
from retort.db.lease import lock
from retort.states import JobState

from retort_worker.outcome import Outcome


def settle(
    database: Database, lease: Lease, outcome: Outcome, *, live: Sequence[NewArtifact], final: Sequence[NewArtifact]
) -> JobState | None:
    """Publish and end, fail, cancel, retry or hand back, all or nothing.

    Args:
        database: where to write.
        lease: under which to write.
        outcome: how the run ended.
        live: files that are announced however the job goes on: its checkpoints, its log.
        final: files that are announced when the job is over.

    Returns:
        The job's new state; None when the lease is no longer held, and nothing was written.

    Raises:
        DatabaseUnavailable: try again, while the lease lasts.

    """
    with database.begin() as session:
        job = lock(session, lease)
        if job is None:
            return None
        now = clock.now(session)
        failure, code = outcome.failure, outcome.exit_code
        retried = failure is not None and failure.retryable and job.retries_left > 0
        goes_on = outcome.result is None and job.state is JobState.RUNNING and (failure is None or retried)
        for artifact in live if goes_on else (*live, *final):
            artifacts.record(session, lease, artifact, now=now)
        if outcome.result is not None:
            jobs.succeed(session, lease, now=now, result=outcome.result, exit_code=code or 0)
            return JobState.SUCCEEDED
        if job.state is JobState.CANCELLING:
            jobs.mark_cancelled(session, lease, now=now, exit_code=code)
            return JobState.CANCELLED
        if failure is None:
            return jobs.hand_back(session, lease, now=now)
        if failure.retryable:
            return jobs.requeue(session, lease, now=now, failure=failure, exit_code=code)
        jobs.fail(session, lease, now=now, failure=failure, exit_code=code)
        return JobState.FAILED
