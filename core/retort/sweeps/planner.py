"""Plan the next steps of a sweep: trials to start, prune, end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from retort.errors import SpecError
from retort.protocol.events import RunFailure
from retort.spec import JobSpec, SweepSpec
from retort.states import LIVE_SWEEPS, TERMINAL, JobState, SweepState, TrialState
from retort.sweeps.samplers import frozen, next_points, study
from retort.sweeps.search_space import Point, TrialRecord, child

STARTUP = 4
"""So many trials must have ended well before any is judged by them."""
WARMUP = 0.2
"""Share of its epochs that a trial has before it is judged."""


def hopeless(sweep: SweepSpec, trials: Sequence[TrialRecord]) -> dict[int, str]:
    """Return the running trials worse than the median, with reasons.

    The median is that of the other trials at the same epoch. Keys are numbers of trials.
    """
    ended = [trial for trial in trials if trial.outcome is not None]
    complete = sum(trial.outcome is TrialState.SUCCEEDED for trial in ended)
    if not sweep.search.pruning or complete < STARTUP:
        return {}
    judged = [
        trial
        for trial in trials
        if trial.outcome is None and trial.job_state is JobState.RUNNING and not trial.pruned and trial.curve
    ]
    return {trial.number: reason for trial in judged if (reason := _verdict(sweep, ended, trial))}


def _verdict(sweep: SweepSpec, ended: Sequence[TrialRecord], trial: TrialRecord) -> str | None:
    from optuna.pruners import MedianPruner

    warmup = round(WARMUP * trial.num_epochs) + 1  # epochs count from 1
    pruner = MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=warmup)
    if not pruner.prune(study(sweep, ended, trial.number), frozen(sweep, trial)):
        return None
    reached, epoch = sweep.objective.best(trial.curve), max(trial.curve)
    return f"pruned: {reached:.4g} {sweep.objective.metric} after epoch {epoch} is worse than the median of the others"


@dataclass(frozen=True, slots=True)
class NewTrial:
    """A trial to begin: its spec, or the reason for having none.

    The spec is that of its job.
    """

    parameters: Point
    spec: JobSpec | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SweepUpdate:
    """Changes to a sweep, written in one transaction."""

    ended: Mapping[int, TrialRecord] = field(default_factory=dict)
    """Trials with their outcomes."""
    pruned: Mapping[int, str] = field(default_factory=dict)
    """Trials to be cancelled, and why."""
    begun: Mapping[int, NewTrial] = field(default_factory=dict)
    best: int | None = None
    """Number of the best trial."""
    state: SweepState | None = None
    """Where the sweep is to go; None where it stays."""
    failure: RunFailure | None = None

    def __bool__(self) -> bool:
        """Return True if anything changes."""
        return bool(self.ended or self.pruned or self.begun or self.state)


def decide(
    sweep: SweepSpec, state: SweepState, trials: Sequence[TrialRecord], failure: RunFailure | None = None
) -> SweepUpdate:
    """Return the next update of a sweep in *state*.

    The same trials give the same decision.

    Args:
        sweep: what was asked for.
        state: where it stands.
        trials: all that were begun.
        failure: why it gives up, where it was decided to before.

    """
    if state not in LIVE_SWEEPS:
        return SweepUpdate()
    ended = {trial.number: _ended(sweep, trial) for trial in trials if trial.outcome is None and _is_over(trial)}
    known = [ended.get(trial.number, trial) for trial in trials]
    best = _best(sweep, known)
    open_ = [trial for trial in known if trial.outcome is None]
    failure = failure or _too_many_failures(sweep, known)
    if state is SweepState.CANCELLING or failure is not None:
        over = SweepState.CANCELLED if failure is None else SweepState.FAILED
        target = SweepState.CANCELLING if open_ else over
        return SweepUpdate(ended, best=best, state=None if target is state else target, failure=failure)
    begun = _begin(sweep, known, sweep.concurrency - len(open_))
    if not begun and not open_:
        over = SweepState.FAILED if best is None else SweepState.SUCCEEDED
        return SweepUpdate(ended, best=best, state=over, failure=None if best else _nothing_succeeded())
    return SweepUpdate(ended, hopeless(sweep, known), begun, best)


def _is_over(trial: TrialRecord) -> bool:
    return trial.job_state in TERMINAL


def _ended(sweep: SweepSpec, trial: TrialRecord) -> TrialRecord:
    """Say what came of a trial whose job has ended."""
    if trial.job_state is JobState.SUCCEEDED and trial.value is None:
        reason = f"the job has no value of {sweep.objective.role} {sweep.objective.metric}"
        return replace(trial, outcome=TrialState.FAILED, reason=reason)
    if trial.job_state is JobState.SUCCEEDED:
        return replace(trial, outcome=TrialState.SUCCEEDED, reason=None)
    if trial.job_state is JobState.CANCELLED:
        outcome = TrialState.PRUNED if trial.pruned and trial.curve else TrialState.CANCELLED
        return replace(trial, outcome=outcome)
    return replace(trial, outcome=TrialState.FAILED)


def _begin(sweep: SweepSpec, trials: Sequence[TrialRecord], count: int) -> dict[int, NewTrial]:
    begun = {}
    for number, point in next_points(sweep, trials, max(0, count)).items():
        try:
            begun[number] = NewTrial(point, child(sweep, number, point))
        except SpecError as error:
            begun[number] = NewTrial(point, None, error.message)
    return begun


def _best(sweep: SweepSpec, trials: Sequence[TrialRecord]) -> int | None:
    number, best = None, None
    for trial in sorted(trials, key=lambda trial: trial.number):
        value = trial.value if trial.outcome is TrialState.SUCCEEDED else None
        if value is not None and sweep.objective.better(value, best):
            number, best = trial.number, value
    return number


def _too_many_failures(sweep: SweepSpec, trials: Sequence[TrialRecord]) -> RunFailure | None:
    """Give up when the trials that ended last have all failed; those that were cancelled say nothing."""
    told = [trial for trial in trials if trial.outcome not in {None, TrialState.CANCELLED}]
    # A trial that has just ended has no time yet.
    told.sort(key=lambda trial: (trial.ended_at is None, trial.ended_at or 0.0, trial.number))
    last = told[-sweep.failures :]
    if len(last) < sweep.failures or any(trial.outcome is not TrialState.FAILED for trial in last):
        return None
    return RunFailure(
        code="too_many_failures",
        message=f"the last {len(last)} trials failed, the last one with: {last[-1].reason}",
        hint="look at the trials' jobs, change what they have in common, and submit the sweep again",
    )


def _nothing_succeeded() -> RunFailure:
    return RunFailure(
        code="no_trial_succeeded",
        message="the sweep is at its end, and no trial has succeeded",
        hint="look at the trials' jobs for the reasons",
    )


CHOSEN = "It was chosen by this value, which flatters it: run it again with a control and several seeds for a verdict."
"""What is said of every best trial."""


def sentence(sweep: Mapping[str, Any]) -> str:
    """Describe the sweep's progress and best trial in one sentence.

    *sweep* is a sweep as the API shows it.
    """
    best, objective = sweep["best"], sweep["spec"]["objective"]
    if sweep["failure"]:
        told = f"Gave up: {sweep['failure']['message']}."
        return told if best is None else f"{told} The best until then is trial {best['number']} ({best['value']:.4f})."
    done = sum(sweep["counts"][state] for state in ("succeeded", "failed", "pruned", "cancelled"))
    far = f"{done} of {sweep['num_trials']} trials have ended"
    if best is None:
        return f"{far}; none has succeeded yet."
    what = f"{objective['role']} {objective['metric']} {best['value']:.4f}"
    if sweep["state"] == "succeeded":
        return f"Trial {best['number']} is the best of {sweep['num_trials']}: {what}. {CHOSEN}"
    return f"{far}; the best so far is trial {best['number']}: {what}."
