"""A submission is one job, however often it is sent; jobs are found again by page."""

from __future__ import annotations

import pytest
from retort.db import job_list, jobs
from retort.db.idempotency import IdempotencyKey
from retort.db.job_list import JobFilter, Place
from retort.spec import JobSpec, digest
from retort.states import JobState
from support.db_harness import T0, Shop, at_once


def submit(shop: Shop, key: str, body: str = "b" * 64) -> jobs.SubmittedJob:
    with shop.database.begin() as session:
        return jobs.submit(session, shop.spec, now=T0, retries=3, key=key and IdempotencyKey(key, request_sha256=body))


def test_an_accepted_job_waits_in_the_queue_with_its_whole_spec(shop: Shop):
    job = shop.job(shop.queued(retries=5))
    assert (job.state, job.attempt, job.fence, job.retries_left, job.version) == (JobState.QUEUED, 0, 0, 5, 1)
    assert (job.created_at, job.started_at, job.progress, job.stage) == (T0, None, 0.0, None)
    assert JobSpec.model_validate(job.spec) == shop.spec
    assert list(job.spec) == list(shop.spec.model_dump()), "fields stay in the order of the document"
    assert (job.name, job.spec_digest) == ("a", digest(shop.spec))
    assert [(row["seq"], row["type"], row["data"]["state"]) for row in shop.events(job.id)] == [(1, "state", "queued")]


def test_the_same_key_and_body_is_the_same_job(shop: Shop):
    first, second = submit(shop, "k"), submit(shop, "k")
    assert (first.created, second.created) == (True, False)
    assert first.job_id == second.job_id
    assert len(shop.rows("jobs")["jobs"]) == 1
    assert submit(shop, "other").created


def test_a_key_that_comes_with_another_body_is_refused(shop: Shop):
    submit(shop, "k")
    before = shop.rows()
    with pytest.raises(jobs.KeyReused):
        submit(shop, "k", "c" * 64)
    assert shop.rows() == before


def test_the_same_key_sent_eight_times_at_once_makes_one_job(shop: Shop):
    answers = at_once(lambda _number: submit(shop, "k"), 8)
    assert sorted(answer.created for answer in answers) == [False] * 7 + [True]
    assert {answer.job_id for answer in answers} == {shop.rows("jobs")["jobs"][0]["id"]}
    assert len(shop.rows("jobs")["jobs"]) == 1


def test_a_key_is_free_again_when_its_submission_was_rolled_back(shop: Shop):
    with shop.doomed() as session:
        jobs.submit(session, shop.spec, now=T0, retries=3, key=IdempotencyKey("k", request_sha256="b" * 64))
    assert submit(shop, "k", "c" * 64).created


def test_pages_hold_every_job_once_newest_first(shop: Shop):
    ids = [shop.queued() for _ in range(7)]
    seen, after = [], None
    while True:
        with shop.database.read() as session:
            page = job_list.page(session, after=after, limit=3)
        if not page:
            break
        seen += [job.id for job in page]
        after = job_list.place(page[-1], job_list.NEWEST)
    assert seen == ids[::-1]


def test_pages_are_chosen_by_any_of_several_states(shop: Shop):
    queued, running, cancelling = shop.queued(), shop.running().job_id, shop.cancelling().job_id
    with shop.database.read() as session:
        for states, expected in (
            ([JobState.QUEUED], [queued]),
            ([JobState.QUEUED, JobState.CANCELLING], [cancelling, queued]),
            ([JobState.FAILED], []),
            (JobState, [cancelling, running, queued]),
        ):
            assert [job.id for job in job_list.page(session, JobFilter(states=tuple(states)))] == expected
        every = JobFilter(states=tuple(JobState))
        assert [job.id for job in job_list.page(session, every, after=Place(cancelling, cancelling), limit=1)] == [
            running
        ]


def test_counts_name_every_state(shop: Shop):
    shop.queued(), shop.queued(), shop.running()
    with shop.database.read() as session:
        counts = jobs.counts(session)
    assert counts == dict.fromkeys(JobState, 0) | {JobState.QUEUED: 2, JobState.RUNNING: 1}


def test_a_job_that_is_not_there_is_said_to_be_missing(shop: Shop):
    with pytest.raises(jobs.JobNotFound):
        shop.job("job_0")


@pytest.mark.parametrize("count", [0, 1, 30])
def test_many_submissions_in_one_transaction_are_as_many_jobs(shop: Shop, count: int):
    with shop.database.begin() as session:
        given = [jobs.Submission(spec=shop.spec, retries=1, priority=number) for number in range(count)]
        outcomes = jobs.submit_all(session, given, now=T0)
    told = [outcome for outcome in outcomes if isinstance(outcome, jobs.SubmittedJob)]
    assert [shop.job(one.job_id).priority for one in told] == list(range(count))
