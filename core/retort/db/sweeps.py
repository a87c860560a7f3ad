"""Sweeps: submitted, read and cancelled by clients, and carried on by workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT
from retort.db import idempotency, jobs, metrics, quotas
from retort.db.events import sanitize
from retort.db.idempotency import IdempotencyKey
from retort.db.models import SWEEP_PREFIX, JobRow, MetricRow, SweepRow, SweepTrialRow, new_id
from retort.db.session import NO_SYNC, add, table
from retort.errors import UserError
from retort.protocol.events import RunFailure
from retort.spec import Objective, SweepSpec, digest
from retort.states import LIVE_SWEEPS, JobState, SweepState, TrialState
from retort.sweeps.planner import SweepUpdate
from retort.sweeps.search_space import TrialRecord


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
class TrialView:
    """A trial with the standing of its job."""

    trial: SweepTrialRow
    job_state: JobState | None
    progress: float | None
    value: float | None
    """As written down at its end; until then, the best so far."""
    reason: str | None

    @property
    def state(self) -> TrialState:
        """State of the trial, also before its outcome is recorded."""
        return self.trial.outcome or _STATES[self.job_state or JobState.FAILED]


_STATES = {
    JobState.QUEUED: TrialState.QUEUED, JobState.PAUSED: TrialState.QUEUED, JobState.AWAITING_REVIEW: TrialState.QUEUED,
    JobState.RUNNING: TrialState.RUNNING, JobState.PAUSING: TrialState.RUNNING, JobState.CANCELLING: TrialState.RUNNING,
    JobState.SUCCEEDED: TrialState.SUCCEEDED, JobState.FAILED: TrialState.FAILED, JobState.EXPIRED: TrialState.FAILED,
    JobState.CANCELLED: TrialState.CANCELLED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SubmittedSweep:
    """Sweep of a submission, and whether the submission made it."""

    sweep_id: str
    created: bool


def submit(
    session: Session,
    sweep: SweepSpec,
    *,
    now: float,
    retries: int,
    project: str = DEFAULT_PROJECT,
    owner: str = DEFAULT_OWNER,
    priority: int = 0,
    key: IdempotencyKey | None = None,
) -> SubmittedSweep:
    """Accept a sweep, once per idempotency *key*; the workers make its jobs.

    Raises:
        KeyReused: the key came with another sweep before.
        QuotaExceeded: the project has no room for a job, so there is none for a trial.

    """
    sweep_id, spec_digest = new_id(SWEEP_PREFIX), digest(sweep)
    if key is not None:
        known = idempotency.claim(session, key, sweep_id, project=project, now=now, otherwise=spec_digest)
        if known != sweep_id:
            return SubmittedSweep(known, created=False)
    quotas.Room(session, now=now).take(project)
    row = {
        "id": sweep_id, "name": sweep.name, "state": SweepState.RUNNING, "spec": sweep.model_dump(mode="json"),
        "spec_digest": spec_digest, "project": project, "owner": owner, "priority": priority, "retries": retries,
        "num_trials": sweep.num_trials, "version": 1, "created_at": now, "keep": False,
    }  # fmt: skip
    add(session, SweepRow, [row])
    return SubmittedSweep(sweep_id, created=True)


def get(session: Session, sweep_id: str) -> SweepRow:
    """Return the sweep.

    Raises:
        SweepNotFound: there is no such sweep.

    """
    sweep = session.scalar(select(SweepRow).where(SweepRow.id == sweep_id))
    if sweep is None:
        raise SweepNotFound(f"there is no sweep {sweep_id}")
    return sweep


def page(session: Session, *, after: str | None = None, limit: int = 50, deleted: bool = False) -> list[SweepRow]:
    """Return a page of at most *limit* sweeps, newest first.

    They are older than the sweep *after*, and in the trash if they are to be *deleted*, else outside of it.
    """
    where = SweepRow.deleted_at.is_not(None) if deleted else SweepRow.deleted_at.is_(None)
    query = select(SweepRow).where(where).order_by(SweepRow.id.desc()).limit(limit)
    return list(session.scalars(query if after is None else query.where(SweepRow.id < after)))


def trials(session: Session, sweep_id: str) -> list[TrialView]:
    """Return the sweep's trials in the order in which they began."""
    query = select(SweepTrialRow, JobRow.state, JobRow.progress, JobRow.failure).outerjoin(
        JobRow, JobRow.id == SweepTrialRow.job_id
    )
    rows = session.execute(query.where(SweepTrialRow.sweep_id == sweep_id).order_by(SweepTrialRow.number)).all()
    open_ = [row.job_id for row, *_ in rows if row.outcome is None and row.job_id is not None]
    objective = Objective.model_validate(get(session, sweep_id).spec["objective"])
    found = metrics.curves(session, open_, role=objective.role, name=objective.metric)
    listed = []
    for row, job_state, progress, failure in rows:
        value = objective.best(found.get(row.job_id, {})) if row.outcome is None else row.value
        listed.append(TrialView(row, job_state, progress, value, row.reason or (failure and failure["message"])))
    return listed


def counts(session: Session, sweep_ids: Sequence[str]) -> dict[str, dict[TrialState, int]]:
    """Return the number of trials of each sweep in each state.

    Every state is there.
    """
    found = {sweep_id: dict.fromkeys(TrialState, 0) for sweep_id in sweep_ids}
    query = select(SweepTrialRow.sweep_id, SweepTrialRow.outcome, JobRow.state, func.count())
    joined = query.outerjoin(JobRow, JobRow.id == SweepTrialRow.job_id).where(SweepTrialRow.sweep_id.in_(sweep_ids))
    for sweep_id, outcome, job_state, number in session.execute(
        joined.group_by(SweepTrialRow.sweep_id, SweepTrialRow.outcome, JobRow.state)
    ):
        found[sweep_id][outcome or _STATES[job_state or JobState.FAILED]] += number
    return found


def bests(session: Session, sweep_ids: Sequence[str]) -> dict[str, SweepTrialRow]:
    """Return the best trial of each of the sweeps that have one."""
    query = select(SweepTrialRow).join(
        SweepRow, (SweepRow.id == SweepTrialRow.sweep_id) & (SweepRow.best == SweepTrialRow.number)
    )
    return {trial.sweep_id: trial for trial in session.scalars(query.where(SweepRow.id.in_(sweep_ids)))}


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
    """Cancel the sweep's trials under way, and make no more trials.

    Asking again changes nothing.

    Raises:
        SweepNotFound: there is no such sweep.
        SweepFinished: it has ended otherwise.

    """
    sweep = session.scalar(select(SweepRow).where(SweepRow.id == sweep_id).with_for_update())
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


def keep(session: Session, sweep_id: str, *, keep: bool) -> None:
    """Pin the sweep, so that retention passes it by, or unpin it.

    Raises:
        SweepNotFound: there is no such sweep.
        WrongState: it is in the trash.

    """
    sweep = get(session, sweep_id)
    if sweep.deleted_at is not None:
        raise jobs.WrongState(f"sweep {sweep_id} is in the trash", hint="restore it first")
    if sweep.keep is not keep:
        changed = update(SweepRow).where(SweepRow.id == sweep_id).values(keep=keep, version=SweepRow.version + 1)
        session.execute(changed, execution_options=NO_SYNC)


def move(session: Session, sweep_id: str, target: SweepState, *, version: int, now: float, **values: Any) -> bool:
    """Move the sweep to *target*, if it is still at *version*.

    It may be at *target* already and stay there; False when it is at another version.
    """
    finished_at = None if target in LIVE_SWEEPS else now
    same = update(SweepRow).where(SweepRow.id == sweep_id, SweepRow.version == version, SweepRow.state.in_(LIVE_SWEEPS))
    changed = same.values(state=target, version=SweepRow.version + 1, finished_at=finished_at, **values)
    return session.execute(changed.returning(SweepRow.id), execution_options=NO_SYNC).one_or_none() is not None


def cancel_trials(session: Session, sweep_id: str, *, now: float, actor: str, reason: str) -> int:
    """Cancel the jobs of all open trials; return their number.

    Open trials are those without an outcome.
    """
    query = select(SweepTrialRow.job_id).where(SweepTrialRow.sweep_id == sweep_id, SweepTrialRow.outcome.is_(None))
    job_ids = [job_id for job_id in session.scalars(query.order_by(SweepTrialRow.number)) if job_id is not None]
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


_METRICS = table(MetricRow).c


@dataclass(frozen=True, slots=True)
class SweepSnapshot:
    """A sweep and all its trials at one moment."""

    sweep_id: str
    spec: SweepSpec
    state: SweepState
    version: int
    failure: RunFailure | None
    trials: tuple[TrialRecord, ...]


def live(session: Session) -> list[str]:
    """Return the sweeps that are to be driven, oldest first."""
    return list(session.scalars(select(SweepRow.id).where(SweepRow.state.in_(LIVE_SWEEPS)).order_by(SweepRow.id)))


def fingerprint(session: Session, sweep_id: str) -> tuple[Any, ...]:
    """Return a cheap fingerprint of the sweep's data.

    It changes whenever there may be something to decide.
    """
    objective = SweepRow.spec["objective"]
    about = select(SweepRow.version, objective["role"].as_string(), objective["metric"].as_string())
    version, role, metric = session.execute(about.where(SweepRow.id == sweep_id)).one()
    query = select(SweepTrialRow.number, JobRow.version, SweepTrialRow.job_id).join(
        JobRow, JobRow.id == SweepTrialRow.job_id
    )
    query = query.where(SweepTrialRow.sweep_id == sweep_id, SweepTrialRow.outcome.is_(None)).order_by(
        SweepTrialRow.number
    )
    steps = select(func.max(_METRICS.step)).where(_METRICS.role == role, _METRICS.name == metric)
    return (version, *(
        (row.number, row.version, session.scalar(steps.where(_METRICS.job_id == row.job_id)))
        for row in session.execute(query).all()
    ))  # fmt: skip


def load(session: Session, sweep_id: str) -> SweepSnapshot:
    """Return the sweep as it stands; the session must see one moment."""
    sweep = get(session, sweep_id)
    spec = SweepSpec.model_validate(sweep.spec)
    columns = (JobRow.state, JobRow.failure, JobRow.spec["training"]["epochs"].as_integer())
    query = select(SweepTrialRow, *columns).outerjoin(JobRow, JobRow.id == SweepTrialRow.job_id)
    rows = session.execute(query.where(SweepTrialRow.sweep_id == sweep_id).order_by(SweepTrialRow.number)).all()
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
            TrialRecord(
                number=row.number, parameters=row.parameters, outcome=row.outcome, value=value, job_id=row.job_id,
                job_state=job_state, pruned=row.pruned, reason=reason, ended_at=row.ended_at, curve=curve,
                num_epochs=epochs or 0,
            )
        )  # fmt: skip
    failure = RunFailure.model_validate(sweep.failure) if sweep.failure else None
    return SweepSnapshot(sweep_id, spec, sweep.state, sweep.version, failure, tuple(trials))


def apply(session: Session, standing: SweepSnapshot, decision: SweepUpdate, *, now: float) -> bool:
    """Apply *decision* to the sweep, unless it has changed since.

    *standing* is what was decided on; False when the sweep has moved on since then, or there is nothing to change as
    long as a quota lets no trial begin. Trials for which there is no room begin later.
    """
    only_begins = decision.begun and not (decision.ended or decision.pruned or decision.state)
    if only_begins and not _room(session, standing.sweep_id, decision, now=now):
        return False
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


def _room(session: Session, sweep_id: str, decision: SweepUpdate, *, now: float) -> bool:
    """Return True if a trial can begin, or cannot and needs no job."""
    if any(begun.spec is None for begun in decision.begun.values()):
        return True
    return next(quotas.Room(session, now=now).refusals(get(session, sweep_id).project), None) is None


def _change(session: Session, sweep_id: str, number: int, values: dict[str, Any]) -> None:
    values = {**values, "reason": values["reason"] and sanitize(values["reason"])}
    which = (SweepTrialRow.sweep_id == sweep_id, SweepTrialRow.number == number)
    session.execute(update(SweepTrialRow).where(*which).values(**values), execution_options=NO_SYNC)


def _prune(session: Session, standing: SweepSnapshot, number: int, reason: str, *, now: float) -> None:
    job_id = next(trial.job_id for trial in standing.trials if trial.number == number)
    assert job_id is not None, "it runs"
    if cancel_job(session, job_id, now=now, actor=f"sweep:{standing.sweep_id}", reason=reason):
        _change(session, standing.sweep_id, number, {"pruned": True, "reason": reason})


def _begin(session: Session, sweep_id: str, decision: SweepUpdate, *, now: float) -> None:
    """Insert the new trials with their jobs: a number is taken once, and never without what comes of it."""
    if not decision.begun:
        return
    sweep = get(session, sweep_id)
    wanted = {number: begun.spec for number, begun in decision.begun.items() if begun.spec is not None}
    submissions = [
        jobs.Submission(
            spec=spec, retries=sweep.retries, project=sweep.project, owner=sweep.owner, priority=sweep.priority,
            sweep_id=sweep_id,
        )
        for spec in wanted.values()
    ]  # fmt: skip
    outcomes = jobs.submit_all(session, submissions, now=now)
    job_ids = {
        number: one.job_id
        for number, one in zip(wanted, outcomes, strict=True)
        if isinstance(one, jobs.SubmittedJob)
    }  # fmt: skip
    possible = {number: begun for number, begun in decision.begun.items() if begun.spec is None or number in job_ids}
    rows = [
        {
            "sweep_id": sweep_id, "number": number, "job_id": job_ids.get(number), "parameters": dict(begun.parameters),
            "pruned": False, "outcome": None if begun.spec else TrialState.FAILED, "value": None,
            "reason": begun.reason, "begun_at": now, "ended_at": None if begun.spec else now,
        }
        for number, begun in possible.items()
    ]  # fmt: skip
    add(session, SweepTrialRow, rows)
