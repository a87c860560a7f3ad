"""Choose the next points: grid in order, others by Optuna."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from retort.spec import Domain, SweepSpec
from retort.states import TrialState
from retort.sweeps.search_space import Point, TrialRecord, grid

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


def next_points(sweep: SweepSpec, trials: Sequence[TrialRecord], count: int) -> dict[int, Point]:
    """Return the points of the next *count* trials, by their numbers.

    There may be fewer left. The same sweep and trials give the same points, on any worker: Optuna's study is made again
    from the trials each time, and its random numbers follow from the seed and the number of the trial.
    """
    first = max((trial.number for trial in trials), default=0) + 1
    numbers = range(first, min(first + count, sweep.num_trials + 1))
    if sweep.search.strategy == "grid":
        points = itertools.islice(grid(sweep), first - 1, first - 1 + len(numbers))
        return dict(zip(numbers, points, strict=True))
    known, found = list(trials), {}
    for number in numbers:
        found[number] = _ask(sweep, known, number)
        known.append(TrialRecord(number, found[number], None))
    return found


def study(sweep: SweepSpec, trials: Sequence[TrialRecord], number: int) -> Study:
    """Return the Optuna study of *trials*, which suggests trial *number*."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = int.from_bytes(hashlib.sha256(f"{sweep.search.seed} {number}".encode()).digest()[:4])
    if sweep.search.strategy == "tpe":
        startup = sweep.search.startup
        sampler: Any = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True)
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed)
    made = optuna.create_study(direction=sweep.objective.goal, sampler=sampler)
    made.add_trials([frozen(sweep, trial) for trial in sorted(trials, key=lambda trial: trial.number)])
    return made


def frozen(sweep: SweepSpec, trial: TrialRecord) -> FrozenTrial:
    """Return the trial as an Optuna trial."""
    from optuna.trial import TrialState as State
    from optuna.trial import create_trial

    distributions = {path: _distribution(domain) for path, domain in sweep.parameters.items()}
    params = {path: _coded(sweep.parameters[path], trial.parameters[path]) for path in sweep.parameters}
    states = {None: State.RUNNING, TrialState.SUCCEEDED: State.COMPLETE, TrialState.PRUNED: State.PRUNED}
    state = states.get(trial.outcome, State.FAIL)
    return create_trial(
        state=state,
        value=trial.value if state in {State.COMPLETE, State.PRUNED} else None,
        params=params,
        distributions=distributions,
        intermediate_values=dict(trial.curve),
    )


def _ask(sweep: SweepSpec, trials: Sequence[TrialRecord], number: int) -> Point:
    distributions = {path: _distribution(domain) for path, domain in sweep.parameters.items()}
    asked: Mapping[str, Any] = study(sweep, trials, number).ask(distributions).params
    return {path: _decoded(domain, asked[path]) for path, domain in sweep.parameters.items()}


def _distribution(domain: Domain) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if domain.values:
        return CategoricalDistribution(range(len(domain.values)))
    low, high = domain.ends()
    if domain.whole:
        return IntDistribution(low, high, log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(low, high, log=domain.log, step=None if domain.step is None else float(domain.step))


def _coded(domain: Domain, value: Any) -> Any:
    """Name one of some values by its place: Optuna's categories are plain values only."""
    return domain.values.index(value) if domain.values else value


def _decoded(domain: Domain, value: Any) -> Any:
    return domain.values[value] if domain.values else value
