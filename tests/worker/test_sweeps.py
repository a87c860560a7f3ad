"""Sweeps as workers drive them: each trial once, never too many at a time, and an end that says why."""

from __future__ import annotations

from typing import Any

from retort.db import clock, sweeps
from retort.db.models import Sweep
from retort.spec import parse_sweep
from retort.states import SweepState, TrialState
from retort_worker.devices import Pool
from retort_worker.slots import Slots
from retort_worker.sweeper import Sweeper
from worker.houses import House, document

GRID = {"training.lr": {"values": [0.05, 0.1, 0.3]}}
RANGE = {"training.lr": {"min": 0.001, "max": 0.5, "log": True}}


def search(house: House, parameters: dict[str, Any], *, epochs: int = 2, **more: Any) -> str:
    """Submit a sweep over scripted runs; return its id."""
    base = document(house.home, "searched", epochs=epochs)
    base["training"]["optimizer"] = "SGD"
    given = {"name": "searched", "base": base, "parameters": parameters, "search": {"strategy": "grid"}, **more}
    with house.database.begin() as session:
        return sweeps.submit(session, parse_sweep(given), now=clock.now(session), retries=0).sweep_id


def sweeper(house: House) -> Sweeper:
    workshop = house.workshop()
    return Sweeper(house.database, Slots(workshop, Pool(1)), look_s=0.1)


def sweep_of(house: House, sweep_id: str) -> Sweep:
    with house.database.read() as session:
        return sweeps.get(session, sweep_id)


def trials_of(house: House, sweep_id: str) -> list[sweeps.Listed]:
    with house.database.read() as session:
        return sweeps.trials(session, sweep_id)


def states(house: House, sweep_id: str) -> list[TrialState]:
    return [one.state for one in trials_of(house, sweep_id)]


def drive(house: House, sweep_id: str) -> Sweep:
    """Run every trial in turn until the sweep has ended."""
    driver = sweeper(house)
    while sweep_of(house, sweep_id).state is SweepState.RUNNING:
        driver.sweep()
        for one in trials_of(house, sweep_id):
            if one.state is TrialState.QUEUED:
                assert one.trial.job_id is not None
                house.run(one.trial.job_id)
    return sweep_of(house, sweep_id)


def test_a_grid_tries_every_combination_once_and_finds_the_best(house: House):
    sweep_id = search(house, {**GRID, "training.batch": {"values": [8, 16]}})
    ended = drive(house, sweep_id)
    found = trials_of(house, sweep_id)
    assert ended.state is SweepState.SUCCEEDED
    assert [one.trial.parameters for one in found] == [
        {"training.lr": lr, "training.batch": batch} for lr in (0.05, 0.1, 0.3) for batch in (8, 16)
    ]
    assert [one.trial.number for one in found] == [1, 2, 3, 4, 5, 6]
    assert [round(one.value or 0, 2) for one in found] == [0.95, 0.95, 1.0, 1.0, 0.8, 0.8]
    assert ended.best == 3
    with house.database.read() as session:
        best = sweeps.best_spec(session, sweep_id)
    assert (best["training"]["lr"], best["training"]["batch"], best["name"]) == (0.1, 8, "searched-0003")


def test_no_more_trials_are_under_way_than_asked_for(house: House):
    sweep_id = search(house, GRID, concurrency=2)
    driver = sweeper(house)
    driver.sweep()
    driver.sweep()
    assert states(house, sweep_id) == [TrialState.QUEUED, TrialState.QUEUED]
    first = trials_of(house, sweep_id)[0].trial.job_id
    assert first is not None
    house.run(first)
    driver.sweep()
    assert states(house, sweep_id) == [TrialState.SUCCEEDED, TrialState.QUEUED, TrialState.QUEUED]
