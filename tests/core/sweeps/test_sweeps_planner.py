"""What is decided about a sweep: which trials end and how, when it gives up, and when it is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retort.spec import SweepSpec, parse_sweep
from retort.states import TERMINAL, JobState, SweepState, TrialState
from retort.sweeps.planner import decide
from retort.sweeps.search_space import TrialRecord

BASE = {"name": "a", "data": {"path": "/data"}, "teacher": {"weights": "yolo11l.pt"}}
POINT = {"training.epochs": 1}


def sweep(num: int = 4, **more: Any) -> SweepSpec:
    parameters = {"training.epochs": {"values": list(range(1, num + 1))}}
    return parse_sweep({"name": "s", "base": BASE, "parameters": parameters, "search": {"strategy": "grid"}, **more})


def trial(number: int, job_state: JobState = JobState.RUNNING, **more: Any) -> TrialRecord:
    return TrialRecord(number, POINT, more.pop("outcome", None), job_id=f"job_{number}", job_state=job_state, **more)


def outcome_of(one: TrialRecord) -> TrialState | None:
    decision = decide(sweep(), SweepState.RUNNING, [one])
    return decision.ended[1].outcome if 1 in decision.ended else None


@pytest.mark.parametrize(
    ("job_state", "more", "outcome"),
    [
        (JobState.QUEUED, {}, None),
        (JobState.RUNNING, {}, None),
        (JobState.PAUSED, {}, None),
        (JobState.CANCELLING, {"pruned": True, "curve": {1: 0.1}, "value": 0.1}, None),
        (JobState.SUCCEEDED, {"value": 0.5}, TrialState.SUCCEEDED),
        (JobState.SUCCEEDED, {"value": 0.5, "pruned": True}, TrialState.SUCCEEDED),
        (JobState.SUCCEEDED, {}, TrialState.FAILED),
        (JobState.FAILED, {}, TrialState.FAILED),
        (JobState.EXPIRED, {}, TrialState.FAILED),
        (JobState.CANCELLED, {}, TrialState.CANCELLED),
        (JobState.CANCELLED, {"pruned": True, "curve": {1: 0.1}, "value": 0.1}, TrialState.PRUNED),
    ],
)
def test_what_comes_of_a_trial_follows_from_its_job(job_state: JobState, more: dict[str, Any], outcome: Any):
    assert outcome_of(trial(1, job_state, **more)) is outcome


def test_a_job_that_never_gave_the_objective_says_so():
    decision = decide(sweep(), SweepState.RUNNING, [trial(1, JobState.SUCCEEDED)])
    assert decision.ended[1].reason == "the job has no value of student val/mAP50-95"


def test_as_many_trials_begin_as_there_is_room_for():
    waiting = trial(1, JobState.QUEUED)
    assert list(decide(sweep(concurrency=3), SweepState.RUNNING, [waiting]).begun) == [2, 3]
    assert not decide(sweep(concurrency=1), SweepState.RUNNING, [waiting])


def test_a_combination_that_is_no_valid_spec_begins_without_a_job():
    parameters = {"training.batch": {"min": 2, "max": 8}}
    base = {**BASE, "resources": {"gpus": 2}}
    search = {"strategy": "random", "trials": 8}
    found = parse_sweep({"name": "s", "base": base, "parameters": parameters, "search": search, "concurrency": 8})
    begun = decide(found, SweepState.RUNNING, []).begun
    odd = {number for number, one in begun.items() if one.parameters["training.batch"] % 2}
    assert 0 < len(odd) < 8
    assert {number for number, one in begun.items() if one.spec is None} == odd
    assert all("does not divide by resources.gpus" in (begun[number].reason or "") for number in odd)


def test_it_gives_up_after_so_many_failures_in_a_row_and_stops_the_rest():
    failed = [trial(number, JobState.FAILED, reason="diverged") for number in (1, 2)]
    decision = decide(sweep(failures=2), SweepState.RUNNING, [*failed, trial(3)])
    assert decision.state is SweepState.CANCELLING
    assert decision.failure is not None
    assert (decision.failure.code, "diverged" in decision.failure.message) == ("too_many_failures", True)
    assert not decision.begun
    ended = [*decision.ended.values(), trial(3, JobState.CANCELLED)]
    over = decide(sweep(failures=2), SweepState.CANCELLING, ended, decision.failure)
    assert (over.state, over.failure) == (SweepState.FAILED, decision.failure)


def test_a_success_between_failures_keeps_it_going():
    order = [TrialState.FAILED, TrialState.SUCCEEDED, TrialState.FAILED]
    trials = [trial(place + 1, outcome=one, value=0.5, ended_at=float(place)) for place, one in enumerate(order)]
    assert decide(sweep(failures=2), SweepState.RUNNING, trials).failure is None
    late = [replace(trials[1], ended_at=0.0), replace(trials[0], ended_at=1.0), trials[2]]
    assert decide(sweep(failures=2), SweepState.RUNNING, late).failure is not None, "the order in which they ended"


def test_trials_that_someone_cancelled_are_no_failures():
    trials = [trial(number, JobState.CANCELLED) for number in (1, 2, 3)]
    decision = decide(sweep(failures=2), SweepState.RUNNING, trials)
    assert (decision.failure, list(decision.begun)) == (None, [4])


def test_it_is_over_when_the_last_trial_has_ended():
    trials = [trial(number, JobState.SUCCEEDED, value=value) for number, value in ((1, 0.2), (2, 0.7), (3, 0.7))]
    assert decide(sweep(3), SweepState.RUNNING, [*trials[:2], trial(3)]).state is None
    decision = decide(sweep(3), SweepState.RUNNING, trials)
    assert (decision.state, decision.best) == (SweepState.SUCCEEDED, 2), "the first of equals"
    least = sweep(3, objective={"metric": "train/box_loss", "goal": "minimize"})
    assert decide(least, SweepState.RUNNING, trials).best == 1
    nothing = decide(sweep(1), SweepState.RUNNING, [trial(1, JobState.CANCELLED)])
    assert nothing.state is SweepState.FAILED
    assert nothing.failure is not None
    assert nothing.failure.code == "no_trial_succeeded"


def test_a_sweep_that_is_cancelled_waits_for_its_jobs_and_begins_nothing():
    waiting = decide(sweep(), SweepState.CANCELLING, [trial(1, JobState.CANCELLING)])
    assert not waiting
    over = decide(sweep(), SweepState.CANCELLING, [trial(1, JobState.CANCELLED)])
    assert (over.state, over.failure, over.begun) == (SweepState.CANCELLED, None, {})


@pytest.mark.parametrize("state", [SweepState.SUCCEEDED, SweepState.FAILED, SweepState.CANCELLED])
def test_nothing_is_decided_about_a_sweep_that_has_ended(state: SweepState):
    assert not decide(sweep(), state, [trial(1, JobState.SUCCEEDED, value=1.0)])


@given(st.lists(st.sampled_from(sorted(TERMINAL)), min_size=1, max_size=12), st.integers(1, 4))
def test_whatever_becomes_of_the_jobs_every_number_is_tried_once_and_the_sweep_ends(
    fates: list[JobState], concurrency: int
):
    found = sweep(6, concurrency=concurrency, failures=4)
    trials: dict[int, TrialRecord] = {}
    state, failure, fate = SweepState.RUNNING, None, iter(fates * 12)
    for _ in range(100):
        decision = decide(found, state, list(trials.values()), failure)
        trials |= decision.ended
        assert not trials.keys() & decision.begun.keys()
        trials |= {number: trial(number, JobState.QUEUED) for number in decision.begun}
        assert sum(one.outcome is None for one in trials.values()) <= concurrency
        state, failure = decision.state or state, decision.failure or failure
        if state not in {SweepState.RUNNING, SweepState.CANCELLING}:
            break
        first = next((one for one in trials.values() if one.outcome is None), None)
        if first is not None:
            trials[first.number] = replace(first, job_state=next(fate), value=0.5)
    assert state in {SweepState.SUCCEEDED, SweepState.FAILED, SweepState.CANCELLED}
    assert list(trials) == list(range(1, len(trials) + 1))
    assert len(trials) == 6 or failure is not None
