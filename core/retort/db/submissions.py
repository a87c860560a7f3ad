"""Jobs come into the queue: one by one, or many in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from retort.db import events, keys, transitions
from retort.db.base import JOB_PREFIX, new_id
from retort.db.models import EventRow, Job, Transition
from retort.db.statements import add
from retort.spec import AnySpec, digest
from retort.states import JobState

DEFAULT_OWNER = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job that someone wants to be done."""

    spec: AnySpec
    retries: int
    """How often failures may be retried."""
    owner: str = DEFAULT_OWNER
    """With whom other owners share the workers."""
    priority: int = 0
    """Higher ones are claimed first."""
    key: str | None = None
    """The client's name for this submission: an idempotency key."""
    body_sha256: str | None = None
    """What must be the same when the key comes again; the spec's digest if left out."""
    parent: Job | None = None
    """The job that this one repeats."""
    go_on: bool = False
    """From the files that *parent* has saved."""
    sweep_id: str | None = None
    """The sweep of which it is a trial."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that a submission stands for, and whether this submission made it."""

    job_id: str
    created: bool
    job: Job | None = None
    """The new job, as it was written; None where the key was known."""
    transition: Transition | None = None
    """The first."""


def submit(session: Session, spec: AnySpec, *, now: float, retries: int, **about: Any) -> Submitted:
    """Accept a job into the queue, once per idempotency key; *about* are more fields of ``Submission``.

    Raises:
        keys.KeyReused: the key came with another body before.

    """
    (outcome,) = submit_all(session, [Submission(spec=spec, retries=retries, **about)], now=now)
    if isinstance(outcome, keys.KeyReused):
        raise outcome
    return outcome


def submit_all(session: Session, submissions: Sequence[Submission], *, now: float) -> list[Submitted | keys.KeyReused]:
    """Accept jobs into the queue; return what became of each, in the order given.

    A key that came with another body before is told as the error that ``submit`` would raise, and hinders no other.
    """
    outcomes: list[Submitted | keys.KeyReused] = []
    accepted: list[dict[str, Any]] = []
    for submission in submissions:
        job_id = new_id(JOB_PREFIX)
        try:
            known = _known(session, submission, job_id, now=now)
        except keys.KeyReused as error:
            outcomes.append(error)
            continue
        if known != job_id:
            outcomes.append(Submitted(known, created=False))
            continue
        row = _row(submission, job_id, now=now)
        actor = "client" if submission.sweep_id is None else f"sweep:{submission.sweep_id}"
        first = transitions.row(job_id, JobState.QUEUED, attempt=0, now=now, actor=actor, reason=None)
        accepted.append({"job": row, "transition": first})
        outcomes.append(Submitted(job_id, created=True, job=Job(**row), transition=Transition(**first)))
    add(session, Job, [one["job"] for one in accepted])
    add(session, Transition, [one["transition"] for one in accepted])
    add(session, EventRow, [events.of_transition(one["transition"], seq=1) for one in accepted])
    return outcomes


def _known(session: Session, submission: Submission, job_id: str, *, now: float) -> str:
    """Return the job that the submission's key stands for: *job_id* if it is new."""
    if submission.key is None:
        return job_id
    body_sha256 = submission.body_sha256 or digest(submission.spec)
    return keys.take(session, submission.key, body_sha256, job_id, now=now)


def _row(submission: Submission, job_id: str, *, now: float) -> dict[str, Any]:
    spec, parent = submission.spec, submission.parent
    patience_s = spec.resources.max_queue_s
    inherited = parent if submission.go_on else None
    return {
        "id": job_id, "name": spec.name, "state": JobState.QUEUED, "progress": 0.0,
        "spec": spec.model_dump(mode="json"), "spec_digest": digest(spec),
        "attempt": 0, "fence": 0, "retries_left": submission.retries, "last_seq": 1, "version": 1, "created_at": now,
        "owner": submission.owner, "priority": submission.priority, "gpus": spec.resources.gpus, "claimable_at": now,
        "run_s": 0.0, "expires_at": None if patience_s is None else now + patience_s, "finish_early": False,
        "parent_id": parent and parent.id, "recovery": inherited and inherited.recovery,
        "adjustments": inherited and inherited.adjustments, "sweep_id": submission.sweep_id,
    }  # fmt: skip
