"""Only the holder of the lease writes, and a lease that runs out is taken back once."""

from __future__ import annotations

import pytest
from results import RESULT
from retort.db import Lease, artifacts, events, jobs, queue, transitions
from retort.protocol.events import LogEvent, MetricEvent, RunFailure
from retort.states import JobState
from support.db_harness import T0, Shop, at_once

FAILURE = RunFailure(code="x", message="x", retryable=True)
FINAL = RunFailure(code="bad_data", message="x")
SAVED = {"job_id": "job_1", "attempt": 1, "stage": "distill", "epoch": 1, "files": []}
FILE = artifacts.NewArtifact("student.pt", "student", "0" * 64, 1, "application/octet-stream", "sha256/00/0")
SAID = [
    MetricEvent(n=1, at=1.0, role="student", step=1, values={"val/mAP50-95": 0.5}),
    LogEvent(n=2, at=1.0, message="x"),
]

WRITES = {
    "renew": lambda s, lease: jobs.renew(s, lease, now=T0 + 50, lease_s=30, count=1),
    "succeed": lambda s, lease: transitions.succeed(s, lease, now=T0 + 50, result=RESULT),
    "fail": lambda s, lease: transitions.fail(s, lease, now=T0 + 50, failure=FAILURE, exit_code=1),
    "mark_cancelled": lambda s, lease: transitions.mark_cancelled(s, lease, now=T0 + 50, exit_code=75),
    "fail for good": lambda s, lease: transitions.fail(s, lease, now=T0 + 50, failure=FINAL, exit_code=1),
    "outlook": lambda s, lease: transitions.plan(s, lease, succeeded=True, failure=None, now=T0 + 50),
    "save": lambda s, lease: artifacts.record_recovery(s, lease, SAVED, now=T0 + 50),
    "hand_back": lambda s, lease: transitions.hand_back(s, lease, now=T0 + 50),
    "record": lambda s, lease: events.record(s, lease, SAID, now=T0 + 50, lease_s=30, journal_offset=99),
    "record an earlier attempt": lambda s, lease: events.record(
        s, lease, SAID, now=T0 + 50, lease_s=30, journal_offset=99, attempt=1
    ),
    "say": lambda s, lease: events.log(s, lease, "x", "info", T0 + 50),
    "publish": lambda s, lease: artifacts.record(s, lease, FILE, now=T0 + 50),
}  # fmt: skip


@pytest.mark.parametrize("then", ["handed back", "claimed again", "being cancelled under the next worker", "ended"])
@pytest.mark.parametrize("write", WRITES)
def test_a_worker_that_lost_its_lease_writes_nothing(shop: Shop, write: str, then: str):
    stale = shop.running()
    with shop.database.begin() as session:
        transitions.hand_back(session, stale, now=T0)
    if then != "handed back":
        fresh = shop.claimed(stale.job_id, worker="w2")
        with shop.database.begin() as session:
            if then == "ended":
                transitions.succeed(session, fresh, now=T0, result=RESULT)
            elif then != "claimed again":
                jobs.cancel(session, stale.job_id, now=T0, actor="client")
    before = shop.rows()

    with shop.database.begin() as session:
        answer = WRITES[write](session, stale)

    assert not answer
    assert shop.rows() == before


@pytest.mark.parametrize("write", WRITES)
def test_the_holder_of_the_lease_writes(shop: Shop, write: str):
    lease = shop.cancelling() if write == "mark_cancelled" else shop.running()
    before = shop.rows()
    with shop.database.begin() as session:
        assert WRITES[write](session, lease)
    assert (shop.rows() != before) == (write != "outlook")


def test_of_sixteen_workers_that_claim_one_job_one_gets_it(shop: Shop):
    for _ in range(4):
        job_id = shop.queued()

        def claim(number: int, job_id: str = job_id) -> Lease | None:
            with shop.database.begin() as session:
                return queue.claim(session, job_id, worker=f"w{number}", host="h", now=T0, lease_s=30)

        leases = [lease for lease in at_once(claim, 16) if lease is not None]
        assert len(leases) == 1
        assert (leases[0].attempt, leases[0].fence) == (1, 1)
        assert shop.job(job_id).worker == leases[0].worker
    assert len(shop.rows("attempts")["attempts"]) == 4


def test_renewing_brings_back_the_wished_state_and_is_no_new_version_of_the_job(shop: Shop):
    lease = shop.running()
    version = shop.job(lease.job_id).version
    with shop.database.begin() as session:
        renewed = jobs.renew(session, lease, now=T0 + 20, lease_s=30, count=5)
    assert (renewed.last_seq, renewed.state) == (7, JobState.RUNNING)
    assert (shop.job(lease.job_id).lease_until, shop.job(lease.job_id).version) == (T0 + 50, version)
    with shop.database.begin() as session:
        jobs.cancel(session, lease.job_id, now=T0, actor="client")
        assert jobs.renew(session, lease, now=T0 + 20, lease_s=30).state is JobState.CANCELLING


def test_the_reaper_takes_only_leases_that_ran_out(shop: Shop):
    lost, alive = shop.running(), shop.running(now=T0 + 10)
    with shop.database.begin() as session:
        assert queue.reap(session, now=T0 + 30) == []
        assert queue.reap(session, now=T0 + 31) == [queue.ReapedJob(lost.job_id, JobState.QUEUED)]
        assert queue.reap(session, now=T0 + 31) == []
    job = shop.job(lost.job_id)
    assert (job.state, job.retries_left, job.failure, job.worker) == (JobState.QUEUED, 2, None, None)
    assert shop.job(alive.job_id).state is JobState.RUNNING
    first = shop.rows("attempts")["attempts"][0]
    assert (first["state"], first["failure"]["code"], first["ended_at"]) == ("lost", "lost_worker", T0 + 31)
    assert shop.rows("transitions")["transitions"][-1]["actor"] == "reaper"


def test_a_lease_that_is_renewed_late_but_before_the_reaper_came_still_holds(shop: Shop):
    lease = shop.running()
    with shop.database.begin() as session:
        assert jobs.renew(session, lease, now=T0 + 100, lease_s=30) is not None
        assert queue.reap(session, now=T0 + 101) == []


def test_the_reaper_never_overwrites_a_job_that_ended(shop: Shop):
    lease = shop.running()
    with shop.database.begin() as session:
        transitions.succeed(session, lease, now=T0, result=RESULT)
        assert queue.reap(session, now=T0 + 1e6) == []
    assert shop.job(lease.job_id).state is JobState.SUCCEEDED


def test_a_lost_job_without_retries_left_fails_as_lost_worker(shop: Shop):
    lease = shop.running(retries=0)
    with shop.database.begin() as session:
        assert queue.reap(session, now=T0 + 31) == [queue.ReapedJob(lease.job_id, JobState.FAILED)]
    job = shop.job(lease.job_id)
    assert (job.failure["code"], job.failure["retryable"], job.finished_at) == ("lost_worker", True, T0 + 31)
    assert "w1" in job.failure["message"]


def test_a_lost_job_that_was_being_cancelled_is_cancelled(shop: Shop):
    lease = shop.cancelling()
    with shop.database.begin() as session:
        assert queue.reap(session, now=T0 + 31) == [queue.ReapedJob(lease.job_id, JobState.CANCELLED)]
    assert shop.rows("attempts")["attempts"][0]["state"] == "lost"


def test_the_reaper_works_in_pages_until_nothing_is_left(shop: Shop):
    lost = [shop.running().job_id for _ in range(5)]
    pages = []
    for _ in range(4):
        with shop.database.begin() as session:
            pages.append([reaped.job_id for reaped in queue.reap(session, now=T0 + 31, limit=2)])
    assert pages == [lost[:2], lost[2:4], lost[4:], []]


def test_reapers_at_the_same_time_reap_each_job_once(shop: Shop):
    lost = [shop.running().job_id for _ in range(20)]

    def reap(_number: int) -> list[str]:
        with shop.database.begin() as session:
            return [reaped.job_id for reaped in queue.reap(session, now=T0 + 31)]

    assert sorted(job_id for page in at_once(reap, 8) for job_id in page) == lost
    assert {job["retries_left"] for job in shop.rows("jobs")["jobs"]} == {2}


def test_a_renewal_and_a_reaper_at_the_same_time_agree_on_who_holds_the_job(shop: Shop):
    for _ in range(10):
        lease = shop.running()

        def work(number: int, lease: Lease = lease) -> object:
            with shop.database.begin() as session:
                if number:
                    return jobs.renew(session, lease, now=T0 + 40, lease_s=30) is not None
                return queue.reap(session, now=T0 + 31) != []

        reaped, renewed = at_once(work, 2)
        assert reaped != renewed
        assert shop.job(lease.job_id).state is (JobState.QUEUED if reaped else JobState.RUNNING)
        with shop.database.begin() as session:
            queue.reap(session, now=T0 + 1000)


def test_cancel_and_success_at_the_same_time_end_in_success(shop: Shop):
    for _ in range(10):
        lease = shop.running()

        def work(number: int, lease: Lease = lease) -> object:
            with shop.database.begin() as session:
                if number:
                    return transitions.succeed(session, lease, now=T0, result=RESULT)
                return jobs.cancel(session, lease.job_id, now=T0, actor="client")

        cancelled, succeeded = at_once(work, 2)
        assert succeeded is True
        assert cancelled is JobState.CANCELLING or isinstance(cancelled, jobs.JobFinished)
        assert shop.job(lease.job_id).state is JobState.SUCCEEDED


def test_cancel_and_claim_at_the_same_time_never_lose_the_wish_to_cancel(shop: Shop):
    for _ in range(10):
        job_id = shop.queued()

        def work(number: int, job_id: str = job_id) -> object:
            with shop.database.begin() as session:
                if number:
                    return queue.claim(session, job_id, worker="w", host="h", now=T0, lease_s=30)
                return jobs.cancel(session, job_id, now=T0, actor="client")

        state, lease = at_once(work, 2)
        assert state is shop.job(job_id).state
        assert (lease is None) == (state is JobState.CANCELLED)
