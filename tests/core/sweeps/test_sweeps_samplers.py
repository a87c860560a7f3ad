"""Which points come next: inside their domains, the same for the same past, and nearer to what was good."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import Any

import pytest
from retort.spec import SweepSpec, parse_sweep
from retort.states import JobState, TrialState
from retort.sweeps.planner import STARTUP, hopeless
from retort.sweeps.samplers import next_points
from retort.sweeps.search_space import TrialRecord

BASE = {"name": "a", "data": {"path": "/data"}, "teacher": {"weights": "yolo11l.pt"}}
MIXED = {
    "training.lr": {"min": 0.0001, "max": 0.1, "log": True},
    "training.epochs": {"min": 1, "max": 20, "step": 3},
    "training.grad_clip": {"min": 1.0, "max": 10.0, "step": 0.4},
    "distillation.losses": {"values": [[{"kind": "softmax_kl"}], [{"kind": "channel_l2"}]]},
    "control": {"values": [True, False]},
}


def sweep(parameters: dict[str, Any] = MIXED, **search: Any) -> SweepSpec:
    goal = {"goal": search.pop("goal", "maximize")}
    return parse_sweep({"name": "s", "base": BASE, "parameters": parameters, "search": search, "objective": goal})


def tried(found: SweepSpec, count: int, score: Any) -> list[TrialRecord]:
    """Run the search with a score for each point."""
    trials: list[TrialRecord] = []
    for _ in range(count):
        for number, point in next_points(found, trials, 1).items():
            trials.append(TrialRecord(number, point, TrialState.SUCCEEDED, value=score(point)))
    return trials


@pytest.mark.parametrize("strategy", ["random", "tpe"])
def test_every_point_lies_in_its_domains(strategy: str):
    found = sweep(strategy=strategy, trials=40)
    for trial in tried(found, 40, lambda point: point["training.lr"]):
        point = trial.parameters
        assert 0.0001 <= point["training.lr"] <= 0.1
        assert point["training.epochs"] in {1, 4, 7, 10, 13, 16, 19}
        assert type(point["training.epochs"]) is int
        assert math.isclose((point["training.grad_clip"] - 1.0) / 0.4 % 1, 0, abs_tol=1e-6) or math.isclose(
            (point["training.grad_clip"] - 1.0) / 0.4 % 1, 1, abs_tol=1e-6
        )
        assert point["distillation.losses"] in MIXED["distillation.losses"]["values"]
        assert type(point["control"]) is bool


@pytest.mark.parametrize("strategy", ["grid", "random", "tpe"])
def test_the_same_past_gives_the_same_points_and_another_seed_others(strategy: str):
    parameters = {"training.epochs": {"min": 1, "max": 500}} if strategy == "grid" else MIXED
    more = {} if strategy == "grid" else {"trials": 30}
    found = sweep(parameters, strategy=strategy, **more)
    past = tried(found, 12, lambda point: point["training.epochs"])
    assert next_points(found, past, 3) == next_points(found, past, 3)
    other = sweep(parameters, strategy=strategy, seed=1, **more)
    assert (next_points(found, past, 3) == next_points(other, past, 3)) is (strategy == "grid")


@pytest.mark.parametrize("strategy", ["grid", "random", "tpe"])
def test_numbers_go_on_from_the_last_and_end_with_the_last(strategy: str):
    parameters = {"training.epochs": {"min": 1, "max": 5}}
    found = sweep(parameters, strategy=strategy, **({} if strategy == "grid" else {"trials": 5}))
    past = tried(found, 3, lambda point: point["training.epochs"])
    assert list(next_points(found, past, 10)) == [4, 5]
    assert next_points(found, past, 0) == {}
    assert next_points(found, tried(found, 5, lambda _: 0.0), 1) == {}


@pytest.mark.parametrize(("goal", "sign"), [("maximize", 1), ("minimize", -1)])
def test_tpe_learns_where_it_is_good(goal: str, sign: int):
    parameters = {"training.lr": {"min": 0.0, "max": 1.0}}
    found = sweep(parameters, strategy="tpe", trials=60, startup=10, goal=goal)
    trials = tried(found, 60, lambda point: -sign * abs(point["training.lr"] - 0.3))
    away = [abs(trial.parameters["training.lr"] - 0.3) for trial in trials]
    assert statistics.median(away[30:]) < statistics.median(away[:10]) / 2


def test_trials_under_way_are_not_tried_twice():
    found = sweep({"training.lr": {"min": 0.0, "max": 1.0}}, strategy="tpe", trials=40, startup=5)
    past = tried(found, 20, lambda point: -abs(point["training.lr"] - 0.3))
    points = [point["training.lr"] for point in next_points(found, past, 4).values()]
    assert len(set(points)) == 4


@pytest.mark.parametrize("outcome", [TrialState.FAILED, TrialState.CANCELLED, TrialState.PRUNED])
def test_trials_that_did_not_succeed_are_known_to_the_search(outcome: TrialState):
    found = sweep(strategy="tpe", trials=40)
    past = tried(found, 15, lambda point: point["training.lr"])
    past[3] = replace(past[3], outcome=outcome, value=0.1 if outcome is TrialState.PRUNED else None, curve={1: 0.1})
    assert list(next_points(found, past, 1)) == [16]


def curve(level: float, epochs: int = 10) -> dict[int, float]:
    return {epoch: level * epoch / 10 for epoch in range(1, epochs + 1)}


def ended(found: SweepSpec, count: int) -> list[TrialRecord]:
    trials = tried(found, count, lambda _: 0.5)
    return [replace(trial, curve=curve(0.5), value=0.5) for trial in trials]


def running(found: SweepSpec, number: int, level: float, epochs: int, **more: Any) -> TrialRecord:
    (point,) = next_points(found, [], 1).values()
    about = {"job_state": JobState.RUNNING, "curve": curve(level, epochs), "num_epochs": 10, **more}
    return TrialRecord(number, point, None, **about)


def test_a_trial_below_the_median_at_its_epoch_is_hopeless():
    found = sweep(strategy="tpe", trials=40, pruning=True)
    past = ended(found, STARTUP)
    poor, good = running(found, 5, 0.2, 4), running(found, 6, 0.8, 4)
    verdicts = hopeless(found, [*past, poor, good])
    assert verdicts.keys() == {5}
    assert verdicts[5].startswith("pruned: 0.08 val/mAP50-95 after epoch 4")


def test_less_is_better_where_the_goal_is_the_smallest():
    found = sweep(strategy="random", trials=40, pruning=True, goal="minimize")
    falling = {epoch: 1.0 / epoch for epoch in range(1, 11)}
    past = [replace(trial, curve=falling) for trial in ended(found, STARTUP)]
    poor = replace(running(found, 5, 0, 4), curve={epoch: 2.0 / epoch for epoch in range(1, 5)})
    good = replace(running(found, 6, 0, 4), curve={epoch: 0.5 / epoch for epoch in range(1, 5)})
    assert hopeless(found, [*past, poor, good]).keys() == {5}


@pytest.mark.parametrize(
    ("number_of_others", "epochs", "more"),
    [
        (STARTUP - 1, 4, {}),  # too few to be judged by
        (STARTUP, 2, {}),  # in its first fifth
        (STARTUP, 4, {"job_state": JobState.CANCELLING}),
        (STARTUP, 4, {"pruned": True}),
        (STARTUP, 0, {}),  # nothing measured yet
    ],
)
def test_a_trial_is_judged_neither_too_early_nor_twice(number_of_others: int, epochs: int, more: dict[str, Any]):
    found = sweep(strategy="tpe", trials=40, pruning=True)
    assert hopeless(found, [*ended(found, number_of_others), running(found, 9, 0.1, epochs, **more)]) == {}


def test_without_pruning_nothing_is_hopeless():
    found = sweep(strategy="tpe", trials=40)
    assert hopeless(found, [*ended(found, STARTUP), running(found, 9, 0.1, 4)]) == {}
