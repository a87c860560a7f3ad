"""Which of the running trials are hopeless."""

from __future__ import annotations

from collections.abc import Sequence

from retort.spec import SweepSpec
from retort.states import JobState, TrialState
from retort.sweeps.strategies import frozen, study
from retort.sweeps.trials import Trial

STARTUP = 4
"""So many trials must have ended well before any is judged by them."""
WARMUP = 0.2
"""Share of its epochs that a trial has before it is judged."""


def hopeless(sweep: SweepSpec, trials: Sequence[Trial]) -> dict[int, str]:
    """Return the numbers of running trials that are worse than the median at their epoch, each with the reason."""
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


def _verdict(sweep: SweepSpec, ended: Sequence[Trial], trial: Trial) -> str | None:
    from optuna.pruners import MedianPruner

    warmup = round(WARMUP * trial.num_epochs) + 1  # epochs count from 1
    pruner = MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=warmup)
    if not pruner.prune(study(sweep, ended, trial.number), frozen(sweep, trial)):
        return None
    reached, epoch = sweep.objective.best(trial.curve), max(trial.curve)
    return f"pruned: {reached:.4g} {sweep.objective.metric} after epoch {epoch} is worse than the median of the others"
