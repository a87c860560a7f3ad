"""Who is claimed next: by priority, then shared fairly between owners, then by age; and who waits in vain."""

from __future__ import annotations

from retort.db import jobs, queue, transitions
from retort.protocol.events import RunFailure
from retort.states import JobState
from support.db_harness import T0, Shop


def test_the_oldest_job_is_next(shop: Shop):
    first, second = shop.queued(), shop.queued()
    assert shop.claimable() == [first]
    shop.claimed(first)
    assert shop.claimable() == [second]


def test_a_higher_priority_goes_first_and_may_be_given_later(shop: Shop):
    usual, urgent, spare = shop.queued(), shop.queued(priority=5), shop.queued(priority=-5)
    assert shop.claimable() == [urgent]
    with shop.database.begin() as session:
        jobs.change(session, spare, jobs.JobChange(priority=10))
    assert shop.claimable() == [spare]
    for job_id, left in ((spare, [urgent]), (urgent, [usual]), (usual, [])):
        shop.claimed(job_id)
        assert shop.claimable() == left


def test_owners_share_the_workers_however_many_jobs_each_has(shop: Shop):
    crowd = [shop.queued(owner="a") for _ in range(20)]
    late = [shop.queued(owner="b") for _ in range(3)]
    order = []
    for _ in range(6):
        job_id = shop.claimable()[0]
        order.append("a" if job_id in crowd else "b")
        assert job_id in crowd + late
        shop.claimed(job_id)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert shop.claimable() == [crowd[3]]


def test_jobs_that_are_claimed_together_are_shared_as_if_one_after_the_other(shop: Shop):
    crowd = [shop.queued(owner="a") for _ in range(20)]
    late, busy = [shop.queued(owner="b") for _ in range(2)], [shop.queued(owner="c") for _ in range(3)]
    for _ in range(2):
        shop.claimed(busy.pop(0))
    dealt = [crowd[0], late[0], crowd[1], late[1], crowd[2], busy[0]]
    for number in range(1, 7):
        assert shop.claimable(number=number)[:number] == dealt[:number]
    assert shop.claimable(number=30)[6:] == crowd[3:]
    order = []
    for _ in range(6):
        order.append(shop.claimable()[0])
        shop.claimed(order[-1])
    assert order == dealt


def test_of_jobs_that_are_wanted_together_each_is_claimed_that_still_may_be(shop: Shop):
    first, second, gone = shop.queued(), shop.queued(), shop.queued()
    shop.claimed(gone)
    wanted = {second: "cuda:1", gone: "cuda:2", first: "cuda:0", "job_0": "cuda:3"}
    with shop.database.begin() as session:
        claims = queue.claim_all(session, wanted, worker="w", host="h1", now=T0, lease_s=30)
    assert {claim.lease.job_id for claim in claims} == {first, second}
    attempts = {row["job_id"]: row for row in shop.rows("attempts")["attempts"] if row["job_id"] != gone}
    for claim in claims:
        job = shop.job(claim.lease.job_id)
        assert (job.state, job.worker, job.lease_until, job.version) == (JobState.RUNNING, "w", T0 + 30, 2)
        assert (claim.lease.attempt, claim.lease.fence, claim.spec) == (job.attempt, job.fence, job.spec)
        assert attempts[job.id]["device"] == wanted[job.id]
        assert [event["data"]["state"] for event in shop.events(job.id)] == ["queued", "running"]


def test_a_job_that_another_transaction_holds_is_passed_over(postgres_shop: Shop):
    held, free = postgres_shop.queued(), postgres_shop.queued()
    with postgres_shop.database.begin() as session, postgres_shop.database.begin() as other:
        jobs.cancel(session, held, now=T0, actor="client")
        claims = queue.claim_all(other, {held: "cpu", free: "cpu"}, worker="w", host="h", now=T0, lease_s=30)
        assert [claim.lease.job_id for claim in claims] == [free]


def test_of_owners_with_equal_shares_the_one_whose_job_is_older_goes_first(shop: Shop):
    z, a = shop.queued(owner="z"), shop.queued(owner="a")
    assert shop.claimable() == [z, a]


def test_a_job_that_needs_more_gpus_than_there_are_is_left_to_other_workers(shop: Shop):
    wide, narrow = shop.queued(resources={"gpus": 4}), shop.queued()
    assert shop.claimable(gpus=1) == [narrow]
    assert shop.claimable(gpus=4) == [wide]
    assert shop.claimable() == [wide]


def test_a_retry_waits_and_others_overtake_it(shop: Shop):
    flaky = shop.running(priority=9)
    other = shop.queued()
    failure = RunFailure(code="disk_full", message="full", retryable=True)
    with shop.database.begin() as session:
        assert transitions.fail(session, flaky, now=T0, failure=failure, exit_code=1) is JobState.QUEUED
    assert shop.claimable(now=T0 + 59) == [other]
    with shop.database.begin() as session:
        assert queue.claim(session, flaky.job_id, worker="w", host="h", now=T0 + 59, lease_s=30) is None
    assert shop.claimable(now=T0 + 60) == [flaky.job_id]


def test_a_job_that_never_started_in_time_expires(shop: Shop):
    patient, late = shop.queued(), shop.queued(resources={"max_queue_s": 60})
    started = shop.queued(resources={"max_queue_s": 60})
    lease = shop.claimed(started)
    with shop.database.begin() as session:
        transitions.hand_back(session, lease, now=T0 + 1)  # what has started has been waiting for long enough already
        assert queue.expire(session, now=T0 + 59) == []
        assert queue.expire(session, now=T0 + 60) == [queue.ReapedJob(late, JobState.EXPIRED)]
        assert queue.expire(session, now=T0 + 1e9) == []
    job = shop.job(late)
    assert (job.state, job.finished_at, job.failure["code"]) == (JobState.EXPIRED, T0 + 60, "expired")
    assert "max_queue_s" in job.failure["message"]
    assert shop.job(patient).state is shop.job(started).state is JobState.QUEUED


def test_what_has_waited_for_too_long_is_not_claimed_any_more(shop: Shop):
    late = shop.queued(resources={"max_queue_s": 60})
    assert shop.claimable(now=T0 + 60) == []
    with shop.database.begin() as session:
        assert queue.claim(session, late, worker="w", host="h", now=T0 + 60, lease_s=30) is None


def test_expiring_works_in_pages(shop: Shop):
    late = {shop.queued(resources={"max_queue_s": 60}) for _ in range(5)}
    pages = []
    for _ in range(4):
        with shop.database.begin() as session:
            pages.append({gone.job_id for gone in queue.expire(session, now=T0 + 61, limit=2)})
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    assert set().union(*pages) == late
