"""Sweeps as workers drive them: each trial once, never too many at a time, and an end that says why."""

from __future__ import annotations

from typing import Any

from results import RESULT
from retort.constants import MAP, Role
from retort.db import events, jobs, queue, quotas, sweeps, transitions
from retort.db.models import SweepRow
from retort.db.quotas import Limits
from retort.db.session import database_now
from retort.protocol.events import MetricEvent
from retort.spec import parse_sweep
from retort.states import JobState, SweepState, TrialState
from retort_worker.gpus import DevicePool
from retort_worker.loops import Sweeper
from retort_worker.worker import JobWorker
from sqlalchemy import update
from support.db_harness import at_once
from support.worker_harness import PATIENCE_S, House, document, eventually
from worker.test_supervisor import in_thread

GRID = {"training.lr": {"values": [0.05, 0.1, 0.3]}}
RANGE = {"training.lr": {"min": 0.001, "max": 0.5, "log": True}}


def search(house: House, parameters: dict[str, Any], *, epochs: int = 2, **more: Any) -> str:
    """Submit a sweep over scripted runs; return its id."""
    base = document(house.home, "searched", epochs=epochs)
    base["training"]["optimizer"] = "SGD"
    given = {"name": "searched", "base": base, "parameters": parameters, "search": {"strategy": "grid"}, **more}
    with house.database.begin() as session:
        return sweeps.submit(session, parse_sweep(given), now=database_now(session), retries=3).sweep_id


def sweeper(house: House) -> Sweeper:
    workshop = house.workshop()
    return Sweeper(house.database, JobWorker(workshop, DevicePool(1)), look_s=0.1)


def sweep_of(house: House, sweep_id: str) -> SweepRow:
    with house.database.read() as session:
        return sweeps.get(session, sweep_id)


def trials_of(house: House, sweep_id: str) -> list[sweeps.TrialView]:
    with house.database.read() as session:
        return sweeps.trials(session, sweep_id)


def score(house: House, job_id: str | None, values: list[float]) -> None:
    """Bring a trial's job to a good end, without a run."""
    assert job_id is not None
    said = [
        MetricEvent(n=n, at=0, role=Role.STUDENT, step=n, values={MAP: value}) for n, value in enumerate(values, 1)
    ]  # fmt: skip
    with house.database.begin() as session:
        now = database_now(session)
        lease = queue.claim(session, job_id, worker="w", host="h", now=now, lease_s=60)
        assert lease is not None
        assert events.record(session, lease, said, now=now, lease_s=60, journal_offset=1)
        assert transitions.succeed(session, lease, now=now, result=RESULT)


def states(house: House, sweep_id: str) -> list[TrialState]:
    return [one.state for one in trials_of(house, sweep_id)]


def drive(house: House, sweep_id: str) -> SweepRow:
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


def test_tpe_tries_as_many_as_asked_for_and_a_second_worker_gives_the_same_points(house: House):
    asked = {"search": {"strategy": "tpe", "trials": 6, "seed": 3, "startup": 3}}
    first, second = search(house, RANGE, **asked), search(house, RANGE, **asked)
    assert drive(house, first).state is drive(house, second).state is SweepState.SUCCEEDED
    points = [
        [one.trial.parameters["training.lr"] for one in trials_of(house, sweep_id)] for sweep_id in (first, second)
    ]
    assert points[0] == points[1]
    assert len(set(points[0])) == 6


def test_a_hopeless_trial_is_cancelled_while_it_runs_and_says_why(house: House):
    random = {"strategy": "random", "trials": 5, "pruning": True}
    sweep_id = search(house, {"training.grad_clip": {"min": 1.0, "max": 2.0}}, search=random, epochs=2000)
    driver = sweeper(house)
    for number in range(4):  # that many have to end well, as good as it gets
        driver.sweep()
        score(house, trials_of(house, sweep_id)[number].trial.job_id, [0.9] * 2000)
    driver.sweep()
    job_id = trials_of(house, sweep_id)[4].trial.job_id
    assert job_id is not None
    running = in_thread(house.supervision(job_id)[0])
    eventually(lambda: driver.sweep() and house.job(job_id).state is not JobState.RUNNING)
    assert running.result(PATIENCE_S) is JobState.CANCELLED
    driver.sweep()
    last = trials_of(house, sweep_id)[4]
    assert (last.state, sweep_of(house, sweep_id).state) == (TrialState.PRUNED, SweepState.SUCCEEDED)
    assert last.trial.reason is not None
    assert last.trial.reason.startswith("pruned: ")
    assert 0 < (last.value or 0) < 0.9
    with house.database.read() as session:
        wished = [row for row in jobs.transitions_of_job(session, job_id) if row.name == "cancelling"]
    assert [(row.actor, row.reason) for row in wished] == [(f"sweep:{sweep_id}", last.trial.reason)]


def test_failed_trials_do_not_end_a_sweep(house: House):
    sweep_id = search(house, {"training.lr": {"values": [0.6, 0.1, 0.7]}})
    ended = drive(house, sweep_id)
    assert (ended.state, ended.best) == (SweepState.SUCCEEDED, 2)
    assert states(house, sweep_id) == [TrialState.FAILED, TrialState.SUCCEEDED, TrialState.FAILED]
    assert trials_of(house, sweep_id)[0].reason == "the loss is not a number"


def test_too_many_failures_in_a_row_do_with_the_reason(house: House):
    sweep_id = search(house, {"training.lr": {"values": [0.6, 0.7, 0.8, 0.1]}}, failures=2)
    ended = drive(house, sweep_id)
    assert ended.state is SweepState.FAILED
    assert ended.failure is not None
    assert ended.failure["code"] == "too_many_failures"
    assert "the loss is not a number" in ended.failure["message"]
    assert len(trials_of(house, sweep_id)) == 2


def test_a_cancelled_sweep_stops_its_running_job(house: House):
    sweep_id = search(house, GRID, epochs=2000)
    driver = sweeper(house)
    driver.sweep()
    job_id = trials_of(house, sweep_id)[0].trial.job_id
    assert job_id is not None
    running = in_thread(house.supervision(job_id)[0])
    eventually(lambda: house.steps(job_id, "val/mAP50"))
    with house.database.begin() as session:
        assert sweeps.cancel(session, sweep_id, now=database_now(session), actor="client") is SweepState.CANCELLING
    assert running.result(PATIENCE_S) is JobState.CANCELLED
    driver.sweep()
    assert (sweep_of(house, sweep_id).state, states(house, sweep_id)) == (SweepState.CANCELLED, [TrialState.CANCELLED])


def test_many_workers_at_a_time_try_each_number_once(house: House):
    sweep_id = search(
        house, {"training.grad_clip": {"values": [float(value) for value in range(1, 31)]}}, concurrency=5
    )
    drivers = [sweeper(house) for _ in range(4)]

    def work(number: int) -> None:
        while sweep_of(house, sweep_id).state is SweepState.RUNNING:
            drivers[number].sweep()
            for one in trials_of(house, sweep_id):
                if one.state is TrialState.QUEUED and one.trial.number % 4 == number:
                    score(house, one.trial.job_id, [0.5])
            assert sum(state is TrialState.QUEUED for state in states(house, sweep_id)) <= 5

    assert at_once(work, 4) == [None] * 4
    found = trials_of(house, sweep_id)
    assert [one.trial.number for one in found] == list(range(1, 31))
    assert [one.trial.parameters["training.grad_clip"] for one in found] == [float(value) for value in range(1, 31)]
    assert set(states(house, sweep_id)) == {TrialState.SUCCEEDED}


def test_nothing_is_looked_at_twice_while_nothing_changes(house: House):
    search(house, GRID)
    driver = sweeper(house)
    assert [driver.sweep() for _ in range(3)] == [1, 0, 0]
    asked: list[str] = []
    driver.move_on = asked.append  # type: ignore[assignment, method-assign]
    assert driver.sweep() == 0
    assert asked == []


def test_a_sweep_that_cannot_be_read_does_not_hold_up_the_others(house: House):
    broken, whole = search(house, GRID), search(house, GRID)
    with house.database.begin() as session:
        objective = {"role": "student", "metric": "val/mAP50-95"}
        session.execute(update(SweepRow).where(SweepRow.id == broken).values(spec={"objective": objective}))
    assert sweeper(house).sweep() == 1
    assert states(house, whole) == [TrialState.QUEUED]


def test_real_workers_drive_a_sweep_to_its_end_while_one_of_them_is_killed(small_house: House):
    sweep_id = search(small_house, GRID, concurrency=2, epochs=30)
    first = small_house.worker(lease_s=3.0)
    small_house.worker(lease_s=3.0)
    eventually(lambda: TrialState.RUNNING in states(small_house, sweep_id))
    first.kill()
    eventually(lambda: sweep_of(small_house, sweep_id).state is not SweepState.RUNNING)
    ended = sweep_of(small_house, sweep_id)
    assert states(small_house, sweep_id) == [TrialState.SUCCEEDED] * 3, small_house.log(1)
    assert (ended.state, ended.best) == (SweepState.SUCCEEDED, 2)


def test_a_sweep_that_waits_for_a_quota_is_looked_at_until_there_is_room(house: House):
    sweep_id = search(house, GRID)
    with house.database.begin() as session:
        quotas.put(session, "default", Limits(queued_jobs=0))
    driver = sweeper(house)
    assert [driver.sweep() for _ in range(2)] == [0, 0]
    assert states(house, sweep_id) == []
    with house.database.begin() as session:
        quotas.put(session, "default", Limits(queued_jobs=5))
    assert driver.sweep() == 1
    assert states(house, sweep_id) != []
