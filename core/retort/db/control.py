"""What clients wish of jobs: to be cancelled, paused, resumed, finished early, or to come first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from retort.db import moves
from retort.db.catalogue import JobNotFound
from retort.db.models import Job
from retort.db.statements import NO_SYNC
from retort.errors import UserError
from retort.states import TERMINAL, JobState


class JobFinished(UserError):
    """The job has ended, so it cannot be changed any more."""

    code = "job_already_finished"


class WrongState(UserError):
    """The job is not in a state in which this can be done."""

    code = "wrong_state"


def cancel(session: Session, job_id: str, *, now: float, actor: str, reason: str | None = None) -> JobState:
    """Cancel a waiting job at once; ask a running one to stop. Asking again changes nothing.

    Raises:
        JobNotFound: there is no such job.
        JobFinished: it has ended otherwise.

    """
    job = _locked(session, job_id)
    if job.state in {JobState.CANCELLING, JobState.CANCELLED}:
        return job.state
    _refuse_ended(job, "cancelled")
    waits = job.state in {JobState.QUEUED, JobState.PAUSED, JobState.AWAITING_REVIEW}
    about: dict[str, Any] = {"now": now, "actor": actor, "reason": reason}
    if waits:
        return _move(session, job, JobState.CANCELLED, **about, finished_at=now, expires_at=None)
    return _move(session, job, JobState.CANCELLING, **about)


def pause(session: Session, job_id: str, *, now: float, actor: str) -> JobState:
    """Hold a waiting job at once; ask a running one to stop, so that it can go on later. Asking again changes nothing.

    Raises:
        JobNotFound: there is no such job.
        JobFinished: it has ended.
        WrongState: it is being cancelled, or waits for its review.

    """
    job = _locked(session, job_id)
    if job.state in {JobState.PAUSING, JobState.PAUSED}:
        return job.state
    _refuse_ended(job, "paused")
    _refuse_cancelling(job)
    _refuse_reviewed(job)
    if job.state is JobState.QUEUED:
        return _move(session, job, JobState.PAUSED, now=now, actor=actor, expires_at=None)
    return _move(session, job, JobState.PAUSING, now=now, actor=actor)


def resume(session: Session, job_id: str, *, now: float, actor: str) -> JobState:
    """Queue a paused job, which goes on from what it has saved; take the wish back where it has not stopped yet.

    Resuming a job that waits or runs changes nothing.

    Raises:
        JobNotFound: there is no such job.
        JobFinished: it has ended.
        WrongState: it is being cancelled, or waits for its review.

    """
    job = _locked(session, job_id)
    if job.state in {JobState.QUEUED, JobState.RUNNING}:
        return job.state
    _refuse_ended(job, "resumed")
    _refuse_cancelling(job)
    _refuse_reviewed(job)
    if job.state is JobState.PAUSING:
        return _move(session, job, JobState.RUNNING, now=now, actor=actor)
    return _queue(session, job, now=now, actor=actor)


def finish_early(session: Session, job_id: str, *, now: float, actor: str) -> JobState:
    """Ask for the training to end now: the best network so far is kept, evaluated and published.

    A paused job is queued for it. Asking again changes nothing.

    Raises:
        JobNotFound: there is no such job.
        JobFinished: it has ended.
        WrongState: the student has no measured epoch yet, or the job is being cancelled or paused.

    """
    job = _locked(session, job_id)
    if job.finish_early and job.state in {JobState.QUEUED, JobState.RUNNING}:
        return job.state
    _refuse_ended(job, "finished early")
    _refuse_cancelling(job)
    if job.state is JobState.PAUSING:
        raise WrongState(f"job {job_id} is pausing", hint="resume it first, or wait until it is paused")
    if job.best is None:
        hint = "wait for the student's first epoch, or cancel the job"
        raise WrongState(f"job {job_id} has nothing to keep yet: no epoch of its student is measured", hint=hint)
    wish = update(Job).where(Job.id == job_id).values(finish_early=True, version=Job.version + 1)
    session.execute(wish, execution_options=NO_SYNC)
    return job.state if job.state is not JobState.PAUSED else _queue(session, job, now=now, actor=actor)


def prioritize(session: Session, job_id: str, priority: int) -> None:
    """Let the job be claimed before those of lower *priority*; it does not interrupt what runs.

    Raises:
        JobNotFound: there is no such job.
        JobFinished: it has ended.

    """
    job = _locked(session, job_id)
    _refuse_ended(job, "given a priority")
    changed = update(Job).where(Job.id == job_id).values(priority=priority, version=Job.version + 1)
    session.execute(changed, execution_options=NO_SYNC)


def under_review(session: Session, job_id: str) -> Job:
    """Return the job, which waits for its review and cannot change until the transaction ends.

    Raises:
        JobNotFound: there is no such job.
        JobFinished: it has ended.
        WrongState: it does not wait for a review, or not any more.

    """
    job = _locked(session, job_id)
    _refuse_ended(job, "reviewed")
    if job.state is not JobState.AWAITING_REVIEW:
        hint = "decisions count while the job is awaiting_review; they are final once the review is completed"
        raise WrongState(f"job {job_id} is {job.state}: it does not wait for a review", hint=hint)
    return job


def go_on(session: Session, job: Job, *, now: float, actor: str) -> JobState:
    """Queue a job whose review is complete."""
    return _move(session, job, JobState.QUEUED, now=now, actor=actor, claimable_at=now)


def _locked(session: Session, job_id: str) -> Job:
    """Return the job, which nobody can change until the transaction ends."""
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
    if job is None:
        raise JobNotFound(f"there is no job {job_id}")
    session.expunge(job)  # what changes it are statements
    return job


def _refuse_ended(job: Job, done: str) -> None:
    if job.state in TERMINAL:
        hint = "retry makes a new job that goes on where it ended; clone makes one that begins anew"
        raise JobFinished(f"job {job.id} has already {job.state}, so it cannot be {done}", hint=hint)


def _refuse_cancelling(job: Job) -> None:
    if job.state is JobState.CANCELLING:
        raise WrongState(f"job {job.id} is being cancelled", hint="wait until it has ended, then retry or clone it")


def _refuse_reviewed(job: Job) -> None:
    if job.state is JobState.AWAITING_REVIEW:
        hint = "complete the review: POST …/review/complete; until then no worker holds the job"
        raise WrongState(f"job {job.id} waits for its review", hint=hint)


def _queue(session: Session, job: Job, *, now: float, actor: str) -> JobState:
    """Let a paused job wait anew; its patience counts from now where it has never started."""
    patience_s = job.spec["resources"].get("max_queue_s") if job.attempt == 0 else None
    expires_at = None if patience_s is None else now + patience_s
    return _move(session, job, JobState.QUEUED, now=now, actor=actor, expires_at=expires_at, claimable_at=now)


def _move(session: Session, job: Job, target: JobState, *, now: float, actor: str, **values: Any) -> JobState:
    changed = moves.move(session, job.id, target, among={job.state}, now=now, actor=actor, **values)
    assert changed is not None, "the row is locked"
    return target
