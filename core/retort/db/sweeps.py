"""Sweeps as clients see them: submitted, read, cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from retort.db import jobs, metrics
from retort.db.base import SWEEP_PREFIX, new_id
from retort.db.keys import KeyReused
from retort.db.models import Job, Sweep, SweepTrial
from retort.db.statements import NO_SYNC, add_or_ignore
from retort.errors import UserError
from retort.spec import Objective, SweepSpec, digest
from retort.states import LIVE_SWEEPS, JobState, SweepState, TrialState


class SweepNotFound(UserError):
    """There is no such sweep."""

    code = "sweep_not_found"


class SweepFinished(UserError):
    """The sweep has ended, so it cannot be changed any more."""

    code = "sweep_already_finished"


class NoTrialSucceeded(UserError):
    """The sweep has no best trial, because none has succeeded yet."""

    code = "no_trial_succeeded"


@dataclass(frozen=True, slots=True)
class Listed:
    """A trial with where its job stands."""

    trial: SweepTrial
    job_state: JobState | None
    progress: float | None
    value: float | None
    """As written down at its end; until then, the best so far."""
    reason: str | None

    @property
    def state(self) -> TrialState:
        """Where the trial stands, also before anyone has written down what came of it."""
        return self.trial.outcome or _STATES[self.job_state or JobState.FAILED]


_STATES = {
    JobState.QUEUED: TrialState.QUEUED, JobState.PAUSED: TrialState.QUEUED, JobState.AWAITING_REVIEW: TrialState.QUEUED,
    JobState.RUNNING: TrialState.RUNNING, JobState.PAUSING: TrialState.RUNNING, JobState.CANCELLING: TrialState.RUNNING,
    JobState.SUCCEEDED: TrialState.SUCCEEDED, JobState.FAILED: TrialState.FAILED, JobState.EXPIRED: TrialState.FAILED,
    JobState.CANCELLED: TrialState.CANCELLED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Submitted:
    """The sweep that a submission stands for, and whether this submission made it."""

    sweep_id: str
    created: bool


def submit(
    session: Session,
    sweep: SweepSpec,
    *,
    now: float,
    retries: int,
    owner: str = jobs.DEFAULT_OWNER,
    priority: int = 0,
    key: str | None = None,
) -> Submitted:
    """Accept a sweep, once per idempotency *key*; the workers make its jobs.

    Raises:
        KeyReused: the key came with another sweep before.

    """
    sweep_id, about = new_id(SWEEP_PREFIX), {"spec": sweep.model_dump(mode="json"), "spec_digest": digest(sweep)}
    row = {
        "id": sweep_id, "name": sweep.name, "state": SweepState.RUNNING, **about, "idempotency_key": key,
        "owner": owner, "priority": priority, "retries": retries, "num_trials": sweep.num_trials, "version": 1,
        "created_at": now,
    }  # fmt: skip
    if add_or_ignore(session, Sweep, row, key=("idempotency_key",)):
        return Submitted(sweep_id, created=True)
    known = session.execute(select(Sweep.id, Sweep.spec_digest).where(Sweep.idempotency_key == key)).one()
    if known.spec_digest != about["spec_digest"]:
        raise KeyReused(
            "this idempotency key was used for a different sweep",
            hint="send the first sweep again unchanged, or choose a new key",
        )
    return Submitted(known.id, created=False)


def get(session: Session, sweep_id: str) -> Sweep:
    """Return the sweep.

    Raises:
        SweepNotFound: there is no such sweep.

    """
    sweep = session.get(Sweep, sweep_id)
    if sweep is None:
        raise SweepNotFound(f"there is no sweep {sweep_id}")
    return sweep


def page(session: Session, *, after: str | None = None, limit: int = 50) -> list[Sweep]:
    """Return at most *limit* sweeps, newest first, that are older than the sweep *after*."""
    query = select(Sweep).order_by(Sweep.id.desc()).limit(limit)
    return list(session.scalars(query if after is None else query.where(Sweep.id < after)))


def trials(session: Session, sweep_id: str) -> list[Listed]:
    """Return the sweep's trials in the order in which they began."""
    query = select(SweepTrial, Job.state, Job.progress, Job.failure).outerjoin(Job, Job.id == SweepTrial.job_id)
    rows = session.execute(query.where(SweepTrial.sweep_id == sweep_id).order_by(SweepTrial.number)).all()
    open_ = [row.job_id for row, *_ in rows if row.outcome is None and row.job_id is not None]
    objective = Objective.model_validate(get(session, sweep_id).spec["objective"])
    found = metrics.curves(session, open_, role=objective.role, name=objective.metric)
    listed = []
    for row, job_state, progress, failure in rows:
        value = objective.best(found.get(row.job_id, {})) if row.outcome is None else row.value
        listed.append(Listed(row, job_state, progress, value, row.reason or (failure and failure["message"])))
    return listed


def counts(session: Session, sweep_ids: Sequence[str]) -> dict[str, dict[TrialState, int]]:
    """Return how many trials each of the sweeps has in each state; every state is there."""
    found = {sweep_id: dict.fromkeys(TrialState, 0) for sweep_id in sweep_ids}
    query = select(SweepTrial.sweep_id, SweepTrial.outcome, Job.state, func.count())
    joined = query.outerjoin(Job, Job.id == SweepTrial.job_id).where(SweepTrial.sweep_id.in_(sweep_ids))
    for sweep_id, outcome, job_state, number in session.execute(
        joined.group_by(SweepTrial.sweep_id, SweepTrial.outcome, Job.state)
    ):
        found[sweep_id][outcome or _STATES[job_state or JobState.FAILED]] += number
    return found


def bests(session: Session, sweep_ids: Sequence[str]) -> dict[str, SweepTrial]:
    """Return the best trial of each of the sweeps that have one."""
    query = select(SweepTrial).join(Sweep, (Sweep.id == SweepTrial.sweep_id) & (Sweep.best == SweepTrial.number))
    return {trial.sweep_id: trial for trial in session.scalars(query.where(Sweep.id.in_(sweep_ids)))}


def best_spec(session: Session, sweep_id: str) -> dict[str, Any]:
    """Return the whole spec of the best trial's job.

    Raises:
        SweepNotFound: there is no such sweep.
        NoTrialSucceeded: there is no best trial yet.

    """
    sweep = get(session, sweep_id)
    trial = bests(session, [sweep_id]).get(sweep_id)
    if trial is None or trial.job_id is None:
        hint = "wait for the first, or look at the trials for what is wrong"
        raise NoTrialSucceeded(f"no trial of sweep {sweep.id} has succeeded yet", hint=hint)
    return jobs.get(session, trial.job_id).spec


def cancel(session: Session, sweep_id: str, *, now: float, actor: str) -> SweepState:
    """Make no more trials and cancel those under way. Asking again changes nothing.

    Raises:
        SweepNotFound: there is no such sweep.
        SweepFinished: it has ended otherwise.

    """
    sweep = session.scalar(select(Sweep).where(Sweep.id == sweep_id).with_for_update())
    if sweep is None:
        raise SweepNotFound(f"there is no sweep {sweep_id}")
    session.expunge(sweep)  # what changes it is a statement
    if sweep.state in {SweepState.CANCELLING, SweepState.CANCELLED}:
        return sweep.state
    if sweep.state not in LIVE_SWEEPS:
        raise SweepFinished(f"sweep {sweep_id} has already {sweep.state}, so it cannot be cancelled")
    under_way = cancel_trials(session, sweep_id, now=now, actor=actor, reason="sweep cancelled")
    target = SweepState.CANCELLING if under_way else SweepState.CANCELLED
    moved = move(session, sweep_id, target, version=sweep.version, now=now)
    assert moved, "the row is locked"
    return target


def move(session: Session, sweep_id: str, target: SweepState, *, version: int, now: float, **values: Any) -> bool:
    """Bring the sweep to *target*, or let it stay there, if it is still at *version*; False when it is not."""
    finished_at = None if target in LIVE_SWEEPS else now
    same = update(Sweep).where(Sweep.id == sweep_id, Sweep.version == version, Sweep.state.in_(LIVE_SWEEPS))
    changed = same.values(state=target, version=Sweep.version + 1, finished_at=finished_at, **values)
    return session.execute(changed.returning(Sweep.id), execution_options=NO_SYNC).one_or_none() is not None


def cancel_trials(session: Session, sweep_id: str, *, now: float, actor: str, reason: str) -> int:
    """Cancel the jobs of all trials whose outcome is open; return how many those are."""
    query = select(SweepTrial.job_id).where(SweepTrial.sweep_id == sweep_id, SweepTrial.outcome.is_(None))
    job_ids = [job_id for job_id in session.scalars(query.order_by(SweepTrial.number)) if job_id is not None]
    for job_id in job_ids:
        cancel_job(session, job_id, now=now, actor=actor, reason=reason)
    return len(job_ids)


def cancel_job(session: Session, job_id: str, *, now: float, actor: str, reason: str) -> bool:
    """Cancel a trial's job; False when it has ended by itself."""
    try:
        jobs.cancel(session, job_id, now=now, actor=actor, reason=reason)
    except jobs.JobFinished:
        return False
    return True
