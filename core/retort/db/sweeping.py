"""Sweeps as workers drive them: looked at, and moved on by decisions that are carried out whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from retort.db import jobs, metrics, sweeps
from retort.db.events import storable
from retort.db.models import Job, Metric, Sweep, SweepTrial
from retort.db.statements import NO_SYNC, add, table
from retort.events import Failure
from retort.spec import SweepSpec
from retort.states import LIVE_SWEEPS, SweepState, TrialState
from retort.sweeps.decisions import Decision
from retort.sweeps.trials import Trial

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
    sweep = sweeps.get(session, sweep_id)
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
    if not sweeps.move(session, standing.sweep_id, target, version=standing.version, now=now, **changes):
        return False
    for number, trial in decision.ended.items():
        about = {"outcome": trial.outcome, "value": trial.value, "reason": trial.reason, "ended_at": now}
        _change(session, standing.sweep_id, number, about)
    for number, reason in decision.pruned.items():
        _prune(session, standing, number, reason, now=now)
    _begin(session, standing.sweep_id, decision, now=now)
    if decision.state is SweepState.CANCELLING and decision.failure is not None:
        actor = f"sweep:{standing.sweep_id}"
        sweeps.cancel_trials(session, standing.sweep_id, now=now, actor=actor, reason=decision.failure.code)
    return True


def _change(session: Session, sweep_id: str, number: int, values: dict[str, Any]) -> None:
    values = {**values, "reason": values["reason"] and storable(values["reason"])}
    which = (SweepTrial.sweep_id == sweep_id, SweepTrial.number == number)
    session.execute(update(SweepTrial).where(*which).values(**values), execution_options=NO_SYNC)


def _prune(session: Session, standing: Standing, number: int, reason: str, *, now: float) -> None:
    job_id = next(trial.job_id for trial in standing.trials if trial.number == number)
    assert job_id is not None, "it runs"
    if sweeps.cancel_job(session, job_id, now=now, actor=f"sweep:{standing.sweep_id}", reason=reason):
        _change(session, standing.sweep_id, number, {"pruned": True, "reason": reason})


def _begin(session: Session, sweep_id: str, decision: Decision, *, now: float) -> None:
    """Insert the new trials with their jobs: a number is taken once, and never without what comes of it."""
    if not decision.begun:
        return
    sweep = sweeps.get(session, sweep_id)
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
