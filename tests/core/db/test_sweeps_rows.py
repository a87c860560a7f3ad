"""Sweeps in SQL: accepted once, moved on by one worker at a time, and never half."""

from __future__ import annotations

from typing import Any

import pytest
from results import RESULT
from retort.constants import MAP, Role
from retort.db import events, jobs, quotas, retention, sweeps, transitions
from retort.db.idempotency import IdempotencyKey
from retort.db.models import SweepTrialRow
from retort.db.quotas import Limits
from retort.db.retention import RetentionPolicy
from retort.protocol.events import MetricEvent
from retort.spec import JobSpec, parse_sweep
from retort.states import JobState, SweepState, TrialState
from retort.sweeps.planner import SweepUpdate, decide
from support.db_harness import T0, Shop, at_once

PARAMETERS = {"training.epochs": {"values": [1, 2, 3]}}


def submit(shop: Shop, key: str | None = None, **more: Any) -> sweeps.SubmittedSweep:
    base = shop.spec.model_dump(mode="json")
    given = {"name": "s", "base": base, "parameters": PARAMETERS, "search": {"strategy": "grid"}, **more}
    with shop.database.begin() as session:
        return sweeps.submit(
            session, parse_sweep(given), now=T0, retries=2, owner="lab", priority=3, key=key and IdempotencyKey(key)
        )


def look(shop: Shop, sweep_id: str) -> tuple[sweeps.SweepSnapshot, SweepUpdate]:
    with shop.database.read() as session:
        standing = sweeps.load(session, sweep_id)
    return standing, decide(standing.spec, standing.state, standing.trials, standing.failure)


def move_on(shop: Shop, sweep_id: str, now: float = T0) -> bool:
    standing, decision = look(shop, sweep_id)
    with shop.database.begin() as session:
        return bool(decision) and sweeps.apply(session, standing, decision, now=now)


def listed(shop: Shop, sweep_id: str) -> list[sweeps.TrialView]:
    with shop.database.read() as session:
        return sweeps.trials(session, sweep_id)


def job_of(shop: Shop, sweep_id: str, number: int = 1) -> str:
    job_id = listed(shop, sweep_id)[number - 1].trial.job_id
    assert job_id is not None
    return job_id


def finish(shop: Shop, job_id: str, *values: float) -> None:
    lease = shop.claimed(job_id)
    said = [MetricEvent(n=n, at=0, role=Role.STUDENT, step=n, values={MAP: value}) for n, value in enumerate(values, 1)]
    with shop.database.begin() as session:
        assert events.record(session, lease, said, now=T0 + 1, lease_s=30, journal_offset=1)
        assert transitions.succeed(session, lease, now=T0 + 1, result=RESULT)


@pytest.mark.parametrize("state", JobState)
def test_a_trial_can_be_shown_wherever_its_job_stands(state: JobState):
    trial = sweeps.TrialView(SweepTrialRow(outcome=None), job_state=state, progress=None, value=None, reason=None)
    assert trial.state in TrialState


def test_the_same_key_and_sweep_is_the_same_sweep(shop: Shop):
    first, again = submit(shop, "k"), submit(shop, "k")
    assert (first.created, again.created, again.sweep_id) == (True, False, first.sweep_id)
    assert submit(shop).created
    assert submit(shop).created, "without a key each is new"
    with pytest.raises(jobs.KeyReused):
        submit(shop, "k", concurrency=2)


def test_the_same_key_sent_eight_times_at_once_makes_one_sweep(shop: Shop):
    answers = at_once(lambda _: submit(shop, "k"), 8)
    assert sorted(answer.created for answer in answers) == [False] * 7 + [True]
    assert len(shop.rows("sweeps")["sweeps"]) == 1


def test_a_trial_is_an_ordinary_job_of_the_sweeps_owner_priority_and_retries(shop: Shop):
    sweep_id = submit(shop).sweep_id
    assert move_on(shop, sweep_id)
    job = shop.job(job_of(shop, sweep_id))
    assert (job.state, job.name, job.sweep_id) == (JobState.QUEUED, "s-0001", sweep_id)
    assert (job.owner, job.priority, job.retries_left) == ("lab", 3, 2)
    assert JobSpec.model_validate(job.spec).training.epochs == 1
    assert [event["data"]["actor"] for event in shop.events(job.id)] == [f"sweep:{sweep_id}"]
    assert shop.claimable() == [job.id]


def test_of_workers_that_decide_from_the_same_look_one_carries_it_out(shop: Shop):
    sweep_id = submit(shop, concurrency=2).sweep_id
    standing, decision = look(shop, sweep_id)

    def carry_out(_: int) -> bool:
        with shop.database.begin() as session:
            return sweeps.apply(session, standing, decision, now=T0)

    assert sorted(at_once(carry_out, 6)) == [False] * 5 + [True]
    assert [one.trial.number for one in listed(shop, sweep_id)] == [1, 2]
    assert len(shop.rows("jobs")["jobs"]) == 2


def test_a_crash_between_a_trials_number_and_its_job_leaves_neither(shop: Shop):
    sweep_id = submit(shop).sweep_id
    before = shop.rows()
    standing, decision = look(shop, sweep_id)
    with shop.doomed() as session:
        assert sweeps.apply(session, standing, decision, now=T0)
    assert shop.rows() == before
    assert move_on(shop, sweep_id)
    assert [one.trial.number for one in listed(shop, sweep_id)] == [1]


def test_what_came_of_a_trial_is_written_down_once_with_its_best_value(shop: Shop):
    sweep_id = submit(shop).sweep_id
    move_on(shop, sweep_id)
    finish(shop, job_of(shop, sweep_id), 0.1, 0.7, 0.4)
    [before] = listed(shop, sweep_id)
    assert (before.state, before.value, before.trial.outcome) == (TrialState.SUCCEEDED, 0.7, None)
    assert move_on(shop, sweep_id, T0 + 5)
    first, second = listed(shop, sweep_id)
    assert (first.trial.outcome, first.trial.value, first.trial.ended_at) == (TrialState.SUCCEEDED, 0.7, T0 + 5)
    assert second.state is TrialState.QUEUED
    assert not move_on(shop, sweep_id)


def test_a_sweep_ends_with_its_last_trial_and_its_best_spec_can_be_had(shop: Shop):
    sweep_id = submit(shop).sweep_id
    with shop.database.read() as session, pytest.raises(sweeps.NoTrialSucceeded):
        sweeps.best_spec(session, sweep_id)
    for number, value in ((1, 0.2), (2, 0.9), (3, 0.5)):
        assert move_on(shop, sweep_id)
        finish(shop, job_of(shop, sweep_id, number), value)
    assert move_on(shop, sweep_id, T0 + 9)
    with shop.database.read() as session:
        sweep = sweeps.get(session, sweep_id)
        assert (sweep.state, sweep.best, sweep.finished_at) == (SweepState.SUCCEEDED, 2, T0 + 9)
        assert sweeps.best_spec(session, sweep_id)["training"]["epochs"] == 2
        assert sweeps.counts(session, [sweep_id])[sweep_id][TrialState.SUCCEEDED] == 3
        assert sweeps.live(session) == []


def test_cancelling_takes_the_jobs_along_and_waits_for_those_that_run(shop: Shop):
    sweep_id = submit(shop, concurrency=2).sweep_id
    move_on(shop, sweep_id)
    running, waiting = job_of(shop, sweep_id, 1), job_of(shop, sweep_id, 2)
    lease = shop.claimed(running)
    for _ in range(2):
        with shop.database.begin() as session:
            assert sweeps.cancel(session, sweep_id, now=T0, actor="client") is SweepState.CANCELLING
    assert (shop.job(running).state, shop.job(waiting).state) == (JobState.CANCELLING, JobState.CANCELLED)
    move_on(shop, sweep_id)
    assert [one.trial.outcome for one in listed(shop, sweep_id)] == [None, TrialState.CANCELLED]
    with shop.database.begin() as session:
        assert transitions.mark_cancelled(session, lease, now=T0, exit_code=0)
    move_on(shop, sweep_id)
    with shop.database.begin() as session:
        assert sweeps.get(session, sweep_id).state is SweepState.CANCELLED
        assert sweeps.cancel(session, sweep_id, now=T0, actor="client") is SweepState.CANCELLED


def test_a_sweep_without_trials_is_cancelled_at_once_and_one_that_has_ended_is_not(shop: Shop):
    fresh, done = submit(shop).sweep_id, submit(shop).sweep_id
    with shop.database.begin() as session:
        assert sweeps.cancel(session, fresh, now=T0, actor="client") is SweepState.CANCELLED
    for number in (1, 2, 3):
        move_on(shop, done)
        finish(shop, job_of(shop, done, number), 0.5)
    move_on(shop, done)
    with shop.database.begin() as session, pytest.raises(sweeps.SweepFinished):
        sweeps.cancel(session, done, now=T0, actor="client")


def test_a_decision_from_before_a_cancellation_is_dropped(shop: Shop):
    sweep_id = submit(shop).sweep_id
    standing, decision = look(shop, sweep_id)
    with shop.database.begin() as session:
        sweeps.cancel(session, sweep_id, now=T0, actor="client")
    with shop.database.begin() as session:
        assert not sweeps.apply(session, standing, decision, now=T0)
    assert listed(shop, sweep_id) == []


def test_the_pulse_changes_when_there_may_be_something_to_decide(shop: Shop):
    sweep_id = submit(shop).sweep_id

    def pulse() -> tuple[Any, ...]:
        with shop.database.read() as session:
            return sweeps.fingerprint(session, sweep_id)

    seen = [pulse(), pulse()]
    assert seen[0] == seen[1]
    move_on(shop, sweep_id)
    seen.append(pulse())
    lease = shop.claimed(job_of(shop, sweep_id))
    seen.append(pulse())
    said = [MetricEvent(n=1, at=0, role=Role.STUDENT, step=1, values={MAP: 0.0})]
    with shop.database.begin() as session:
        events.record(session, lease, said, now=T0, lease_s=30, journal_offset=1)
    seen.append(pulse())
    assert len(set(seen)) == 4


def test_pages_hold_every_sweep_once_newest_first(shop: Shop):
    ids = [submit(shop).sweep_id for _ in range(5)]
    with shop.database.read() as session:
        first = sweeps.page(session, limit=3)
        rest = sweeps.page(session, after=first[-1].id, limit=3)
    assert [one.id for one in (*first, *rest)] == ids[::-1]


def test_trials_count_as_queued_jobs_and_begin_as_a_quota_has_room(shop: Shop):
    with shop.database.begin() as session:
        quotas.put(session, "default", Limits(queued_jobs=2))
    waiting = shop.queued()
    sweep_id = submit(shop, concurrency=3).sweep_id
    assert move_on(shop, sweep_id)
    assert len(listed(shop, sweep_id)) == 1, "one place was left"
    assert not move_on(shop, sweep_id)
    with pytest.raises(quotas.QuotaExceeded, match="queued jobs: 2 of 2"):
        shop.queued()

    finish(shop, job_of(shop, sweep_id), 0.5)
    assert move_on(shop, sweep_id, T0 + 5)
    assert [one.state for one in listed(shop, sweep_id)] == [TrialState.SUCCEEDED, TrialState.QUEUED]
    shop.claimed(waiting)
    assert move_on(shop, sweep_id, T0 + 6)
    assert len(listed(shop, sweep_id)) == 3


def test_a_sweep_ends_with_all_its_trials_where_the_quota_has_room_for_one(shop: Shop):
    sweep_id = submit(shop, concurrency=3).sweep_id
    with shop.database.begin() as session:
        quotas.put(session, "default", Limits(queued_jobs=1))
    while look(shop, sweep_id)[0].state is SweepState.RUNNING:
        move_on(shop, sweep_id)
        for one in listed(shop, sweep_id):
            if one.state is TrialState.QUEUED:
                assert one.trial.job_id is not None
                finish(shop, one.trial.job_id, 0.5)
    found = look(shop, sweep_id)[0]
    assert (found.state, len(found.trials)) == (SweepState.SUCCEEDED, found.spec.num_trials)


def test_a_sweep_is_refused_where_the_project_has_no_room_for_a_trial_and_its_key_may_come_again(shop: Shop):
    with shop.database.begin() as session:
        quotas.put(session, "default", Limits(queued_jobs=1))
    waiting = shop.queued()
    with pytest.raises(quotas.QuotaExceeded):
        submit(shop, "k")
    shop.claimed(waiting)
    assert submit(shop, "k").created


def test_a_pinned_sweep_and_its_jobs_are_passed_by_by_retention(shop: Shop):
    sweep_id = submit(shop, parameters={"training.seed": {"values": [1]}}).sweep_id
    move_on(shop, sweep_id)
    finish(shop, job_of(shop, sweep_id), 0.5)
    while move_on(shop, sweep_id, T0 + 2):
        pass
    policy = RetentionPolicy(
        jobs_s={"succeeded": 10.0}, events_s=1.0, metrics_s=1.0, keys_s=None, checkpoints_s=None, trash_s=1.0
    )
    with shop.database.begin() as session:
        sweeps.keep(session, sweep_id, keep=True)
        assert retention.trash_old_sweeps(session, policy, now=T0 + 100) == 0
        assert retention.drop_events(session, before=T0 + 100) == 0
        assert retention.drop_metrics(session, before=T0 + 100) == 0
        sweeps.keep(session, sweep_id, keep=False)
        assert retention.drop_metrics(session, before=T0 + 100) == 1
        assert retention.trash_old_sweeps(session, policy, now=T0 + 100) == 1
        with pytest.raises(jobs.WrongState, match="in the trash"):
            sweeps.keep(session, sweep_id, keep=True)
