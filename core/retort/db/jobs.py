"""Jobs as clients see them: submitted, listed, cancelled, paused, resumed, renewed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT
from retort.db import audit, idempotency, quotas, transitions
from retort.db.audit import Act
from retort.db.events import sanitize
from retort.db.idempotency import IdempotencyKey, KeyReused
from retort.db.job_list import searchable
from retort.db.models import JOB_PREFIX, AttemptRow, EventRow, JobRow, TransitionRow, new_id
from retort.db.quotas import QuotaExceeded
from retort.db.session import NO_SYNC, add, table
from retort.db.transitions import HELD, Lease, Renewal, held_by
from retort.errors import UserError
from retort.spec import AnySpec, digest, digest_of
from retort.states import TERMINAL, JobState

_JOBS = table(JobRow)
_STANDINGS = select(_JOBS.c.id, _JOBS.c.version, _JOBS.c.state, _JOBS.c.project).where(
    _JOBS.c.id.in_(bindparam("ids", expanding=True)), _JOBS.c.purged_at.is_(None)
)

_HEADS = select(_JOBS.c.id, _JOBS.c.last_seq, _JOBS.c.state).where(_JOBS.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class JobVersion:
    """Version and state of a job, to detect changes."""

    version: int
    state: JobState
    project: str


@dataclass(frozen=True, slots=True)
class JobHead:
    """Number of a job's latest event, and its state."""

    last_seq: int
    state: JobState


class JobNotFound(UserError):
    """There is no such job."""

    code = "job_not_found"


def get(session: Session, job_id: str) -> JobRow:
    """Return the job.

    Raises:
        JobNotFound: there is no such job.

    """
    job = session.scalar(select(JobRow).where(JobRow.id == job_id))
    if job is None or job.purged_at is not None:
        raise JobNotFound(f"there is no job {job_id}")
    return job


def of_ids(session: Session, job_ids: Sequence[str]) -> list[JobRow]:
    """Return those of the jobs that are there, in the order of *job_ids*."""
    found = {job.id: job for job in session.scalars(select(JobRow).where(JobRow.id.in_(job_ids)))}
    return [found[job_id] for job_id in job_ids if job_id in found]


def versions(session: Session, job_ids: Sequence[str]) -> dict[str, JobVersion]:
    """Return version, state and project of each existing job, in any project."""
    rows = session.connection().execute(_STANDINGS, {"ids": job_ids})
    return {row.id: JobVersion(row.version, row.state, row.project) for row in rows}


def heads(session: Session, job_ids: Sequence[str]) -> dict[str, JobHead]:
    """Return latest event number and state of each of the jobs that exist."""
    rows = session.connection().execute(_HEADS, {"ids": job_ids})
    return {row.id: JobHead(row.last_seq, row.state) for row in rows}


def attempts_of_job(session: Session, job_id: str) -> list[AttemptRow]:
    """Return the job's attempts, first to last."""
    return list(session.scalars(select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.number)))


def transitions_of_job(session: Session, job_id: str) -> list[TransitionRow]:
    """Return the job's transitions in the order in which they were recorded."""
    return list(session.scalars(select(TransitionRow).where(TransitionRow.job_id == job_id).order_by(TransitionRow.id)))


def oldest_queued(session: Session) -> JobRow | None:
    """Return the job that has waited longest since it was submitted."""
    first = select(func.min(JobRow.id)).where(JobRow.state == JobState.QUEUED).scalar_subquery()
    return session.scalar(select(JobRow).where(JobRow.id == first))


def states(session: Session, job_ids: Collection[str]) -> dict[str, JobState]:
    """Return the state of each of the jobs that exist."""
    rows = session.execute(select(JobRow.id, JobRow.state).where(JobRow.id.in_(job_ids)))
    return {row.id: row.state for row in rows}


def counts(session: Session) -> dict[JobState, int]:
    """Return the number of jobs in each state; no state is missing."""
    rows = session.execute(select(JobRow.state, func.count().label("number")).group_by(JobRow.state))
    return dict.fromkeys(JobState, 0) | {row.state: row.number for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job that someone wants to be done."""

    spec: AnySpec
    retries: int
    """How often failures may be retried."""
    project: str = DEFAULT_PROJECT
    owner: str = DEFAULT_OWNER
    """With whom other owners share the workers."""
    priority: int = 0
    """Higher ones are claimed first."""
    key: IdempotencyKey | None = None
    """The client's name for this submission; what must be the same when it comes again is the spec if left open."""
    parent: JobRow | None = None
    """The job that this one repeats."""
    go_on: bool = False
    """From the files that *parent* has saved."""
    extension: Mapping[str, Any] | None = None
    """What *parent* has trained to which epochs are added, as ``retort.data.inputs`` takes it."""
    sweep_id: str | None = None
    """The sweep of which it is a trial."""
    warnings: tuple[str, ...] = ()
    """What was noticed when it was submitted; its first events."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """By which it is found again."""
    act: Act | None = field(default_factory=audit.present)
    """Who submits it, for the audit log; it may be written together with those of others."""


Refusal = KeyReused | QuotaExceeded


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """Job of a submission, and whether the submission made it."""

    job_id: str
    created: bool
    job: JobRow | None = None
    """The new job, as it was written; None where the key was known."""
    transition: TransitionRow | None = None
    """The first."""


def submit(session: Session, spec: AnySpec, *, now: float, retries: int, **about: Any) -> SubmittedJob:
    """Submit a job to the queue, once per idempotency key.

    *about* are more fields of ``Submission``.

    Raises:
        KeyReused: the key came with another body before.

    """
    (outcome,) = submit_all(session, [Submission(spec=spec, retries=retries, **about)], now=now)
    if isinstance(outcome, KeyReused | QuotaExceeded):
        raise outcome
    return outcome


def submit_all(session: Session, submissions: Sequence[Submission], *, now: float) -> list[SubmittedJob | Refusal]:
    """Submit jobs to the queue; return each outcome in order.

    The order is the one given. A key that came with another body before is told as the error that ``submit`` would
    raise, and hinders no other.
    """
    outcomes: list[SubmittedJob | Refusal] = []
    room = quotas.Room(session, now=now)
    accepted: list[dict[str, Any]] = []
    for submission in submissions:
        job_id = new_id(JOB_PREFIX)
        try:
            known = _known(session, submission, job_id, now=now)
            if known != job_id:
                outcomes.append(SubmittedJob(known, created=False))
                continue
            room.take(submission.project)
        except (KeyReused, QuotaExceeded) as error:
            if submission.key is not None and isinstance(error, QuotaExceeded):
                idempotency.release(session, submission.key, job_id, project=submission.project)
            outcomes.append(error)
            continue
        row = _row(session, submission, job_id, now=now)
        actor = "client" if submission.sweep_id is None else f"sweep:{submission.sweep_id}"
        first = TransitionRow.row(job_id, JobState.QUEUED, attempt=0, now=now, actor=actor, reason=None)
        accepted.append({"job": row, "transition": first, "warnings": submission.warnings, "act": submission.act})
        outcomes.append(SubmittedJob(job_id, created=True, job=JobRow(**row), transition=TransitionRow(**first)))
    acts = [(one["act"], one["job"]["id"]) for one in accepted if one["act"] is not None and not one["act"].written]
    audit.write_all(session, acts, now=now)
    add(session, JobRow, [one["job"] for one in accepted])
    add(session, TransitionRow, [one["transition"] for one in accepted])
    add(session, EventRow, [event for one in accepted for event in _first_events(one["transition"], one["warnings"])])
    return outcomes


def _first_events(entered: Mapping[str, Any], warnings: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the events of a submission: that it is queued, and what was noticed."""
    yield EventRow.of_transition(entered, seq=1)
    for seq, warning in enumerate(warnings, 2):
        about = {"job_id": entered["job_id"], "attempt": 0, "at": entered["at"], "n": None}
        yield {**about, "seq": seq, "type": "log", "data": {}, "level": "warning", "message": sanitize(warning)}


def _known(session: Session, submission: Submission, job_id: str, *, now: float) -> str:
    """Return the job that the submission's key stands for: *job_id* if it is new."""
    if submission.key is None:
        return job_id
    return idempotency.claim(
        session, submission.key, job_id, project=submission.project, now=now, otherwise=digest(submission.spec)
    )


def _patience_s(session: Session, wanted_s: float | None) -> float | None:
    """Return how long a job may wait: as its spec says, within what the operator allows, also where it says nothing."""
    bounds = [bound for bound in (wanted_s, session.info.get("max_queue_s")) if bound is not None]
    return min(bounds, default=None)


def _row(session: Session, submission: Submission, job_id: str, *, now: float) -> dict[str, Any]:
    spec, parent = submission.spec, submission.parent
    patience_s = _patience_s(session, spec.resources.max_queue_s)
    inherited = parent if submission.go_on else None
    document = spec.model_dump(mode="json")
    return {
        "id": job_id, "name": spec.name, "state": JobState.QUEUED, "progress": 0.0,
        "labels": dict(submission.labels), "search": searchable(spec.name, submission.labels),
        "spec": document, "spec_digest": digest_of(document),
        "attempt": 0, "fence": 0, "retries": submission.retries, "retries_left": submission.retries,
        "last_seq": 1 + len(submission.warnings), "version": 1, "created_at": now,
        "project": submission.project, "owner": submission.owner, "priority": submission.priority,
        "gpus": spec.resources.gpus, "claimable_at": now,
        "require_gpu": getattr(spec.resources, "require_gpu", None),
        "run_s": 0.0, "expires_at": None if patience_s is None else now + patience_s, "finish_early": False,
        "parent_id": parent and parent.id, "recovery": inherited and inherited.recovery,
        "adjustments": _adjustments(submission, inherited), "sweep_id": submission.sweep_id, "keep": False,
    }  # fmt: skip


def _adjustments(submission: Submission, inherited: JobRow | None) -> dict[str, Any] | None:
    """Return what a job goes on with, and what it extends."""
    known = None if inherited is None else inherited.adjustments
    return known if submission.extension is None else {**(known or {}), "extension": dict(submission.extension)}


class JobFinished(UserError):
    """The job has ended, so it cannot be changed any more."""

    code = "job_already_finished"


class WrongState(UserError):
    """The job's state does not allow the request."""

    code = "wrong_state"


def cancel(session: Session, job_id: str, *, now: float, actor: str, reason: str | None = None) -> JobState:
    """Cancel a waiting job at once; ask a running job to stop.

    Asking again changes nothing.

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
    """Pause a waiting job at once; request pausing of a running job.

    The request is idempotent.

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
    """Resume a paused job from its saved files; withdraw a pending pause.

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
    """Ask the job's training to end now with its best network.

    The best network so far is kept, evaluated and published. A paused job is queued for it. Asking again changes
    nothing.

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
    wish = update(JobRow).where(JobRow.id == job_id).values(finish_early=True, version=JobRow.version + 1)
    session.execute(wish, execution_options=NO_SYNC)
    return job.state if job.state is not JobState.PAUSED else _queue(session, job, now=now, actor=actor)


class VersionConflict(UserError):
    """The job is no longer the one that the client has seen."""

    code = "version_conflict"


@dataclass(frozen=True, slots=True)
class JobChange:
    """Changes to a job; None leaves a value as it is."""

    name: str | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """To set, or with None to remove."""
    priority: int | None = None
    keep: bool | None = None
    """Whether retention is to pass it by."""


MOST_LABELS = 32


def change(
    session: Session, job_id: str, wanted: JobChange, *, matches: Callable[[int], bool] = lambda _version: True
) -> None:
    """Rename and label the job, and set its priority in the queue.

    It is claimed before those of lower priority; what runs is not interrupted.

    Args:
        session: one that writes.
        job_id: of the job.
        wanted: what is to change.
        matches: whether the job's version is the one that the client has seen.

    Raises:
        JobNotFound: there is no such job.
        VersionConflict: it has another version.
        JobFinished: it has ended, and has no priority any more.
        WrongState: it is in the trash.
        UserError: it would have too many labels.

    """
    job = _locked(session, job_id)
    if not matches(job.version):
        hint = "read the job again, and decide from what it is now"
        raise VersionConflict(f"job {job_id} has changed since: its version is {job.version}", hint=hint)
    refuse_deleted(job)
    if wanted.priority is not None:
        _refuse_ended(job, "given a priority")
    labels = {key: value for key, value in {**job.labels, **wanted.labels}.items() if value is not None}
    if len(labels) > MOST_LABELS:
        raise UserError(f"a job has at most {MOST_LABELS} labels", code="bad_parameter", hint="remove some: null")
    name = job.name if wanted.name is None else wanted.name
    priority = job.priority if wanted.priority is None else wanted.priority
    keep = job.keep if wanted.keep is None else wanted.keep
    if (name, labels, priority, keep) == (job.name, job.labels, job.priority, job.keep):
        return
    values = {"name": name, "labels": labels, "search": searchable(name, labels), "priority": priority, "keep": keep}
    changed = update(JobRow).where(JobRow.id == job_id).values(**values, version=JobRow.version + 1)
    session.execute(changed, execution_options=NO_SYNC)


def refuse_deleted(job: JobRow) -> None:
    """Refuse to do anything with a job in the trash.

    Raises:
        WrongState: it is there.

    """
    if job.deleted_at is not None:
        raise WrongState(f"job {job.id} is deleted", hint=f"restore it first: POST /v1/jobs/{job.id}/restore")


def under_review(session: Session, job_id: str) -> JobRow:
    """Return the job in review, locked until the transaction ends.

    It waits for its review, and cannot change until then.

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


def go_on(session: Session, job: JobRow, *, now: float, actor: str) -> JobState:
    """Queue a job whose review is complete."""
    return _move(session, job, JobState.QUEUED, now=now, actor=actor, claimable_at=now)


def _locked(session: Session, job_id: str) -> JobRow:
    """Return the job, which nobody can change until the transaction ends."""
    job = session.scalar(select(JobRow).where(JobRow.id == job_id, JobRow.purged_at.is_(None)).with_for_update())
    if job is None:
        raise JobNotFound(f"there is no job {job_id}")
    session.expunge(job)  # what changes it are statements
    return job


def _refuse_ended(job: JobRow, done: str) -> None:
    if job.state in TERMINAL:
        hint = "retry makes a new job that goes on where it ended; clone makes one that begins anew"
        raise JobFinished(f"job {job.id} has already {job.state}, so it cannot be {done}", hint=hint)


def _refuse_cancelling(job: JobRow) -> None:
    if job.state is JobState.CANCELLING:
        raise WrongState(f"job {job.id} is being cancelled", hint="wait until it has ended, then retry or clone it")


def _refuse_reviewed(job: JobRow) -> None:
    if job.state is JobState.AWAITING_REVIEW:
        hint = "complete the review: POST …/review/complete; until then no worker holds the job"
        raise WrongState(f"job {job.id} waits for its review", hint=hint)


def _queue(session: Session, job: JobRow, *, now: float, actor: str) -> JobState:
    """Let a paused job wait anew; its patience counts from now where it has never started."""
    patience_s = None if job.attempt else _patience_s(session, job.spec["resources"].get("max_queue_s"))
    expires_at = None if patience_s is None else now + patience_s
    return _move(session, job, JobState.QUEUED, now=now, actor=actor, expires_at=expires_at, claimable_at=now)


def _move(session: Session, job: JobRow, target: JobState, *, now: float, actor: str, **values: Any) -> JobState:
    changed = transitions.apply(session, job.id, target, among={job.state}, now=now, actor=actor, **values)
    assert changed is not None, "the row is locked"
    return target


_WISHES = (_JOBS.c.last_seq, _JOBS.c.state, _JOBS.c.finish_early)


def renew(session: Session, lease: Lease, *, now: float, lease_s: float, count: int = 0) -> Renewal | None:
    """Hold the job until ``now + lease_s``, and take event numbers.

    It takes *count* numbers; None when the lease is no longer held.
    """
    changed = {"lease_until": now + lease_s, "last_seq": _JOBS.c.last_seq + count}
    renewed = update(_JOBS).where(HELD).values(**changed).returning(*_WISHES)
    row = session.connection().execute(renewed, held_by(lease)).one_or_none()
    return None if row is None else Renewal(row.last_seq, row.state, finish_early=row.finish_early)
