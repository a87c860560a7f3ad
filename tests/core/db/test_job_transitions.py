"""Every state change that the table allows happens and is written down; every other leaves no trace."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from results import RESULT
from retort.db import jobs, transitions
from retort.db.models import JobRow
from retort.protocol.events import RunFailure
from retort.states import TERMINAL, TRANSITIONS, JobState
from sqlalchemy import update
from support.db_harness import T0, Shop

PAIRS = list(product(JobState, JobState))


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_a_change_happens_exactly_when_the_table_allows_it(shop: Shop, source: JobState, target: JobState):
    lease = shop.running()
    with shop.database.begin() as session:
        session.execute(update(JobRow).where(JobRow.id == lease.job_id).values(state=source))
    before = shop.rows()

    with shop.database.begin() as session:
        changed = transitions.apply(session, lease.job_id, target, now=T0 + 1, actor="test")

    after = shop.rows()
    if target in TRANSITIONS[source]:
        assert changed is not None
        (job,) = after["jobs"]
        assert (job["state"], job["version"], job["last_seq"]) == (target, 3, 3)
        assert after["transitions"][-1]["name"] == target
        assert after["events"][-1]["data"]["state"] == target
    else:
        assert changed is None
        assert after == before


def test_a_job_that_runs_to_its_end_leaves_a_whole_history(shop: Shop):
    lease = shop.running()
    with shop.database.begin() as session:
        assert transitions.succeed(session, lease, now=T0 + 9, result=RESULT)

    job, rows = shop.job(lease.job_id), shop.rows()
    assert (job.state, job.found, job.progress) == (JobState.SUCCEEDED, RESULT, 1.0)
    assert (job.created_at, job.started_at, job.finished_at) == (T0, T0, T0 + 9)
    assert (job.worker, job.lease_until, job.attempt, job.fence) == (None, None, 1, 1)
    assert [(row["kind"], row["name"], row["actor"]) for row in rows["transitions"]] == [
        ("state", "queued", "client"), ("state", "running", "worker:w1"), ("state", "succeeded", "worker:w1"),
    ]  # fmt: skip
    assert [(row["seq"], row["type"]) for row in rows["events"]] == [(1, "state"), (2, "state"), (3, "state")]
    (attempt,) = rows["attempts"]
    assert (attempt["state"], attempt["exit_code"], attempt["ended_at"]) == ("succeeded", 0, T0 + 9)


def test_a_job_that_fails_says_why_on_itself_and_on_its_attempt(shop: Shop):
    lease = shop.running()
    failure = RunFailure(code="bad_data", message="no images", hint="add some")
    with shop.database.begin() as session:
        assert transitions.fail(session, lease, now=T0 + 1, failure=failure, exit_code=1) is JobState.FAILED

    job, (attempt,) = shop.job(lease.job_id), shop.rows("attempts")["attempts"]
    assert job.state is JobState.FAILED
    assert job.failure == attempt["failure"] == failure.model_dump(mode="json")
    assert (attempt["state"], attempt["exit_code"]) == ("failed", 1)


def test_retries_are_used_up_one_by_one_until_the_failure_is_final(shop: Shop, retryable: RunFailure):
    job_id = shop.queued(retries=2)
    states = []
    for now in (T0, T0 + 100, T0 + 200):
        lease = shop.claimed(job_id, now=now)
        with shop.database.begin() as session:
            states.append(transitions.fail(session, lease, now=now, failure=retryable, exit_code=70))

    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    job, attempts = shop.job(job_id), shop.rows("attempts")["attempts"]
    assert (job.attempt, job.fence, job.retries_left, job.finished_at) == (3, 3, 0, T0 + 200)
    assert job.failure == retryable.model_dump(mode="json")
    assert [(row["number"], row["state"], row["exit_code"]) for row in attempts] == [
        (1, "failed", 70), (2, "failed", 70), (3, "failed", 70),
    ]  # fmt: skip


def test_a_requeued_job_shows_no_failure_of_its_own(shop: Shop, retryable: RunFailure):
    lease = shop.running()
    with shop.database.begin() as session:
        transitions.fail(session, lease, now=T0, failure=retryable, exit_code=1)
    job = shop.job(lease.job_id)
    assert (job.failure, job.finished_at, job.worker, job.lease_until, job.stage) == (None, None, None, None, None)


def test_handing_back_uses_no_retry(shop: Shop):
    job_id = shop.queued(retries=0)
    for _ in range(3):
        lease = shop.claimed(job_id)
        with shop.database.begin() as session:
            assert transitions.hand_back(session, lease, now=T0) is JobState.QUEUED
    job = shop.job(job_id)
    assert (job.state, job.retries_left, job.attempt) == (JobState.QUEUED, 0, 3)
    assert {row["state"] for row in shop.rows("attempts")["attempts"]} == {"handed_back"}


@pytest.mark.parametrize("give_up", ["fail", "hand_back"])
def test_a_cancelling_job_that_is_given_up_becomes_cancelled(shop: Shop, retryable: RunFailure, give_up: str):
    lease = shop.cancelling()
    with shop.database.begin() as session:
        if give_up == "fail":
            state = transitions.fail(session, lease, now=T0 + 1, failure=retryable, exit_code=1)
        else:
            state = transitions.hand_back(session, lease, now=T0 + 1)
    job = shop.job(lease.job_id)
    assert state is job.state is JobState.CANCELLED
    assert (job.finished_at, job.retries_left, job.failure) == (T0 + 1, 3, None)


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(shop: Shop):
    queued, lease = shop.queued(), shop.running()
    for _ in range(2):  # asking again changes nothing
        with shop.database.begin() as session:
            assert jobs.cancel(session, queued, now=T0 + 1, actor="client") is JobState.CANCELLED
            assert jobs.cancel(session, lease.job_id, now=T0 + 1, actor="client") is JobState.CANCELLING
    assert [row["name"] for row in shop.rows("transitions")["transitions"]].count("cancelled") == 1
    assert shop.job(queued).finished_at == T0 + 1
    assert shop.job(lease.job_id).finished_at is None

    with shop.database.begin() as session:
        assert transitions.mark_cancelled(session, lease, now=T0 + 2, exit_code=75)
        assert jobs.cancel(session, lease.job_id, now=T0 + 3, actor="client") is JobState.CANCELLED
    assert shop.rows("attempts")["attempts"][0]["state"] == "cancelled"
    assert shop.job(lease.job_id).finished_at == T0 + 2


def test_a_running_job_that_nobody_cancelled_cannot_be_marked_cancelled(shop: Shop):
    lease = shop.running()
    before = shop.rows()
    with shop.database.begin() as session:
        assert not transitions.mark_cancelled(session, lease, now=T0, exit_code=75)
    assert shop.rows() == before


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_a_job_that_has_ended_cannot_be_cancelled(shop: Shop, end: str):
    lease = shop.running()
    with shop.database.begin() as session:
        if end == "succeed":
            transitions.succeed(session, lease, now=T0, result=RESULT)
        else:
            transitions.fail(session, lease, now=T0, failure=RunFailure(code="x", message="x"), exit_code=1)
    with pytest.raises(jobs.JobFinished), shop.database.begin() as session:
        jobs.cancel(session, lease.job_id, now=T0, actor="client")


def test_cancelling_a_job_that_is_not_there_says_so(shop: Shop):
    with pytest.raises(jobs.JobNotFound), shop.database.begin() as session:
        jobs.cancel(session, "job_0", now=T0, actor="client")


def test_a_run_that_finishes_while_it_is_being_cancelled_keeps_its_result(shop: Shop):
    lease = shop.cancelling()
    with shop.database.begin() as session:
        assert transitions.succeed(session, lease, now=T0, result=RESULT)
    assert (shop.job(lease.job_id).state, shop.job(lease.job_id).result) == (
        JobState.SUCCEEDED,
        RESULT.model_dump(mode="json"),
    )


def test_a_second_attempt_keeps_the_first_start_and_resets_what_the_run_tells(shop: Shop, retryable: RunFailure):
    lease = shop.running()
    with shop.database.begin() as session:
        transitions.fail(session, lease, now=T0 + 5, failure=retryable, exit_code=1)
    shop.claimed(lease.job_id, worker="w2", now=T0 + 60)
    job = shop.job(lease.job_id)
    assert (job.started_at, job.worker, job.lease_until, job.progress) == (T0, "w2", T0 + 90, 0.0)


def test_every_recorded_history_is_a_path_through_the_table(shop: Shop, retryable: RunFailure):
    job_id = shop.queued()
    for number, step in enumerate((transitions.hand_back, transitions.fail, transitions.hand_back)):
        lease = shop.claimed(job_id, now=T0 + 100 * number)
        more = {"failure": retryable, "exit_code": 1} if step is transitions.fail else {}
        with shop.database.begin() as session:
            step(session, lease, now=T0, **more)
    with shop.database.begin() as session:
        jobs.cancel(session, job_id, now=T0, actor="client")
    names = [JobState(row["name"]) for row in shop.rows("transitions")["transitions"]]
    assert all(after in TRANSITIONS[before] for before, after in pairwise(names))
    assert names[-1] in TERMINAL
