"""Sweeps: submitted, read and cancelled by clients, and carried on by workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from retort.db import jobs, metrics
from retort.db.events import storable
from retort.db.jobs import KeyReused
from retort.db.models import SWEEP_PREFIX, Job, Metric, Sweep, SweepTrial, new_id
from retort.db.session import NO_SYNC, add, add_or_ignore, table
from retort.errors import UserError
from retort.protocol.events import Failure
from retort.spec import Objective, SweepSpec, digest
from retort.states import LIVE_SWEEPS, JobState, SweepState, TrialState
from retort.sweeps.planner import Decision
from retort.sweeps.search_space import Trial


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


_METRICS = table(Metric).c


@dataclass(frozen=True, slots=True)
class Standing:
    """A sweep and all its trials at one moment."""

    sweep_id: str
    spec: SweepSpec
    state: SweepState
    version: int
    failure: Failure | None
    trials: tuple[Trial, ...]


def live(session: Session) -> list[str]:
    """Return the sweeps that are to be driven, oldest first."""
    return list(session.scalars(select(Sweep.id).where(Sweep.state.in_(LIVE_SWEEPS)).order_by(Sweep.id)))


def pulse(session: Session, sweep_id: str) -> tuple[Any, ...]:
    """Return something that changes whenever there may be something to decide; it costs little."""
    objective = Sweep.spec["objective"]
    about = select(Sweep.version, objective["role"].as_string(), objective["metric"].as_string())
    version, role, metric = session.execute(about.where(Sweep.id == sweep_id)).one()
    query = select(SweepTrial.number, Job.version, SweepTrial.job_id).join(Job, Job.id == SweepTrial.job_id)
    query = query.where(SweepTrial.sweep_id == sweep_id, SweepTrial.outcome.is_(None)).order_by(SweepTrial.number)
    steps = select(func.max(_METRICS.step)).where(_METRICS.role == role, _METRICS.name == metric)
    return (version, *(
        (row.number, row.version, session.scalar(steps.where(_METRICS.job_id == row.job_id)))
        for row in session.execute(query).all()
    ))  # fmt: skip


def look(session: Session, sweep_id: str) -> Standing:
    """Return the sweep as it stands; the session must see one moment."""
    sweep = get(session, sweep_id)
    spec = SweepSpec.model_validate(sweep.spec)
    columns = (Job.state, Job.failure, Job.spec["training"]["epochs"].as_integer())
    query = select(SweepTrial, *columns).outerjoin(Job, Job.id == SweepTrial.job_id)
    rows = session.execute(query.where(SweepTrial.sweep_id == sweep_id).order_by(SweepTrial.number)).all()
    # Of trials that have ended only pruning asks for the way there.
    wanted = [row for row, *_ in rows if row.job_id and (spec.search.pruning or row.outcome is None)]
    objective = spec.objective
    found = metrics.curves(session, [row.job_id for row in wanted], role=objective.role, name=objective.metric)
    trials = []
    for row, job_state, failure, epochs in rows:
        curve = found.get(row.job_id, {})
        reason = row.reason or (failure["message"] if failure else None)
        value = objective.best(curve) if row.outcome is None else row.value
        trials.append(
            Trial(
                number=row.number, parameters=row.parameters, outcome=row.outcome, value=value, job_id=row.job_id,
                job_state=job_state, pruned=row.pruned, reason=reason, ended_at=row.ended_at, curve=curve,
                num_epochs=epochs or 0,
            )
        )  # fmt: skip
    failure = Failure.model_validate(sweep.failure) if sweep.failure else None
    return Standing(sweep_id, spec, sweep.state, sweep.version, failure, tuple(trials))


def carry_out(session: Session, standing: Standing, decision: Decision, *, now: float) -> bool:
    """Do what was decided of *standing*, unless the sweep has moved on since then; False when it has."""
    changes: dict[str, Any] = {"best": decision.best}
    if decision.failure is not None:
        changes["failure"] = decision.failure.model_dump(mode="json")
    target = decision.state or standing.state
    if not move(session, standing.sweep_id, target, version=standing.version, now=now, **changes):
        return False
    for number, trial in decision.ended.items():
        about = {"outcome": trial.outcome, "value": trial.value, "reason": trial.reason, "ended_at": now}
        _change(session, standing.sweep_id, number, about)
    for number, reason in decision.pruned.items():
        _prune(session, standing, number, reason, now=now)
    _begin(session, standing.sweep_id, decision, now=now)
    if decision.state is SweepState.CANCELLING and decision.failure is not None:
        actor = f"sweep:{standing.sweep_id}"
        cancel_trials(session, standing.sweep_id, now=now, actor=actor, reason=decision.failure.code)
    return True


def _change(session: Session, sweep_id: str, number: int, values: dict[str, Any]) -> None:
    values = {**values, "reason": values["reason"] and storable(values["reason"])}
    which = (SweepTrial.sweep_id == sweep_id, SweepTrial.number == number)
    session.execute(update(SweepTrial).where(*which).values(**values), execution_options=NO_SYNC)


def _prune(session: Session, standing: Standing, number: int, reason: str, *, now: float) -> None:
    job_id = next(trial.job_id for trial in standing.trials if trial.number == number)
    assert job_id is not None, "it runs"
    if cancel_job(session, job_id, now=now, actor=f"sweep:{standing.sweep_id}", reason=reason):
        _change(session, standing.sweep_id, number, {"pruned": True, "reason": reason})


def _begin(session: Session, sweep_id: str, decision: Decision, *, now: float) -> None:
    """Insert the new trials with their jobs: a number is taken once, and never without what comes of it."""
    if not decision.begun:
        return
    sweep = get(session, sweep_id)
    wanted = {number: begun.spec for number, begun in decision.begun.items() if begun.spec is not None}
    submissions = [
        jobs.Submission(
            spec=spec, retries=sweep.retries, owner=sweep.owner, priority=sweep.priority, sweep_id=sweep_id
        )
        for spec in wanted.values()
    ]  # fmt: skip
    outcomes = jobs.submit_all(session, submissions, now=now)
    job_ids = {
        number: one.job_id
        for number, one in zip(wanted, outcomes, strict=True)
        if isinstance(one, jobs.Submitted)
    }  # fmt: skip
    rows = [
        {
            "sweep_id": sweep_id, "number": number, "job_id": job_ids.get(number), "parameters": dict(begun.parameters),
            "pruned": False, "outcome": None if begun.spec else TrialState.FAILED, "value": None,
            "reason": begun.reason, "begun_at": now, "ended_at": None if begun.spec else now,
        }
        for number, begun in decision.begun.items()
    ]  # fmt: skip
    add(session, SweepTrial, rows)
