"""What clients may wish, in every state; asking twice is asking once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from results import RESULT
from retort.constants import MAP, Role
from retort.db import Database, Lease, events, jobs, queue, transitions
from retort.protocol.events import MetricEvent, RunFailure
from retort.states import AttemptState, JobState
from support.db_harness import T0, Shop

WISHES: dict[str, Callable[..., JobState]] = {
    "cancel": jobs.cancel, "pause": jobs.pause, "resume": jobs.resume, "finish early": jobs.finish_early,
}  # fmt: skip
NOT_NOW = "wrong_state"
ENDED = "job_already_finished"
ANSWERS: dict[str, dict[str, Any]] = {
    "queued": {"cancel": "cancelled", "pause": "paused", "resume": "queued", "finish early": NOT_NOW},
    "running": {"cancel": "cancelling", "pause": "pausing", "resume": "running", "finish early": NOT_NOW},
    "measured": {"cancel": "cancelling", "pause": "pausing", "resume": "running", "finish early": "running"},
    "pausing": {"cancel": "cancelling", "pause": "pausing", "resume": "running", "finish early": NOT_NOW},
    "paused": {"cancel": "cancelled", "pause": "paused", "resume": "queued", "finish early": NOT_NOW},
    "awaiting_review": {"cancel": "cancelled", "pause": NOT_NOW, "resume": NOT_NOW, "finish early": NOT_NOW},
    "cancelling": {"cancel": "cancelling", "pause": NOT_NOW, "resume": NOT_NOW, "finish early": NOT_NOW},
    "succeeded": dict.fromkeys(WISHES, ENDED),
    "failed": dict.fromkeys(WISHES, ENDED),
    "cancelled": {**dict.fromkeys(WISHES, ENDED), "cancel": "cancelled"},
    "expired": dict.fromkeys(WISHES, ENDED),
}
CASES = [(position, name) for position, answers in ANSWERS.items() for name in answers]


def wish(shop: Shop, what: Callable[..., JobState], job_id: str, now: float = T0 + 1) -> JobState:
    with shop.database.begin() as session:
        return what(session, job_id, now=now, actor="client")


def measured(shop: Shop) -> Lease:
    """A job whose student has an epoch."""
    lease = shop.running()
    said = [MetricEvent(n=1, at=T0, role=Role.STUDENT, step=1, values={MAP: 0.5})]
    with shop.database.begin() as session:
        events.record(session, lease, said, now=T0, lease_s=30, journal_offset=1)
    return lease


def paused(shop: Shop, lease: Lease) -> str:
    wish(shop, jobs.pause, lease.job_id)
    with shop.database.begin() as session:
        assert transitions.hand_back(session, lease, now=T0 + 2) is JobState.PAUSED
    return lease.job_id


def brought_to(shop: Shop, position: str) -> str:
    if position == "queued":
        return shop.queued()
    if position == "expired":
        job_id = shop.queued(resources={"max_queue_s": 1})
        with shop.database.begin() as session:
            queue.expire(session, now=T0 + 2)
        return job_id
    if position == "paused":
        return paused(shop, shop.running())
    lease = measured(shop) if position == "measured" else shop.running()
    with shop.database.begin() as session:
        if position == "succeeded":
            transitions.succeed(session, lease, now=T0, result=RESULT)
        elif position == "failed":
            transitions.fail(session, lease, now=T0, failure=RunFailure(code="x", message="x"), exit_code=1)
        elif position == "awaiting_review":
            assert transitions.await_review(session, lease, now=T0, exit_code=3) is JobState.AWAITING_REVIEW
        elif position == "pausing":
            jobs.pause(session, lease.job_id, now=T0, actor="client")
        elif position in {"cancelling", "cancelled"}:
            jobs.cancel(session, lease.job_id, now=T0, actor="client")
            if position == "cancelled":
                transitions.mark_cancelled(session, lease, now=T0, exit_code=75)
    return lease.job_id


@pytest.mark.parametrize(("position", "name"), CASES, ids=[f"{name} {position}" for position, name in CASES])
def test_every_wish_is_granted_or_refused_in_every_state(shop: Shop, position: str, name: str):
    job_id, answer = brought_to(shop, position), ANSWERS[position][name]
    if answer in {NOT_NOW, ENDED}:
        before = shop.rows()
        with pytest.raises((jobs.WrongState, jobs.JobFinished)) as refused:
            wish(shop, WISHES[name], job_id)
        assert refused.value.code == answer
        assert refused.value.hint
        assert shop.rows() == before
        return
    assert wish(shop, WISHES[name], job_id) == answer
    assert shop.job(job_id).state == answer
    after = shop.rows()
    assert wish(shop, WISHES[name], job_id, T0 + 2) == answer
    assert shop.rows() == after, "asking again changes nothing"


@pytest.mark.parametrize("what", [*WISHES.values(), lambda s, j, **_: jobs.change(s, j, jobs.JobChange(priority=1))])
def test_a_job_that_is_not_there_cannot_be_asked_for_anything(shop: Shop, what: Callable[..., JobState]):
    with pytest.raises(jobs.JobNotFound):
        wish(shop, what, "job_0")


def test_a_paused_job_uses_no_retry_and_goes_on_when_it_is_resumed(shop: Shop):
    job_id = paused(shop, shop.running(retries=0))
    assert shop.claimable() == []
    job = shop.job(job_id)
    assert (job.state, job.retries_left, job.worker, job.lease_until) == (JobState.PAUSED, 0, None, None)
    assert wish(shop, jobs.resume, job_id) is JobState.QUEUED
    assert shop.claimed(job_id, worker="w2", now=T0 + 5).attempt == 2
    assert shop.rows("attempts")["attempts"][0]["state"] == AttemptState.HANDED_BACK


def test_a_job_that_is_resumed_before_it_has_stopped_goes_back_to_the_queue(shop: Shop):
    lease = shop.pausing()
    assert wish(shop, jobs.resume, lease.job_id) is JobState.RUNNING
    with shop.database.begin() as session:
        assert transitions.hand_back(session, lease, now=T0 + 2) is JobState.QUEUED


def test_a_worker_that_dies_while_it_pauses_leaves_a_paused_job_and_costs_no_retry(shop: Shop):
    lease = shop.pausing(retries=0)
    with shop.database.begin() as session:
        assert queue.reap(session, now=T0 + 31) == [queue.ReapedJob(lease.job_id, JobState.PAUSED)]
    assert shop.rows("attempts")["attempts"][0]["state"] == AttemptState.LOST


def test_a_run_that_ends_while_it_pauses_has_ended(shop: Shop):
    first, second = shop.pausing(), shop.pausing()
    with shop.database.begin() as session:
        assert transitions.succeed(session, first, now=T0, result=RESULT)
        final = RunFailure(code="diverged", message="nan")
        assert transitions.fail(session, second, now=T0, failure=final, exit_code=1) is JobState.FAILED
    assert shop.job(first.job_id).state is JobState.SUCCEEDED


def test_patience_in_the_queue_begins_anew_when_a_job_that_never_started_is_resumed(shop: Shop):
    job_id = shop.queued(resources={"max_queue_s": 60})
    wish(shop, jobs.pause, job_id)
    with shop.database.begin() as session:
        assert queue.expire(session, now=T0 + 1e6) == []
    wish(shop, jobs.resume, job_id, T0 + 1e6)
    assert shop.job(job_id).expires_at == T0 + 1e6 + 60


def test_a_job_without_a_patience_of_its_own_has_that_of_the_operator(shop: Shop):
    """``max_queue_s: null`` waited for ever, beyond any ceiling."""
    url = shop.database.url.render_as_string(hide_password=False)
    with closing(Database(url, max_queue_s=60.0)) as bounded:
        shop = Shop(bounded, shop.spec)
        waiting, sooner = shop.queued(), shop.queued(resources={"max_queue_s": 5})
        wish(shop, jobs.pause, waiting)
        wish(shop, jobs.resume, waiting, T0 + 100)
        assert [shop.job(job_id).expires_at for job_id in (waiting, sooner)] == [T0 + 160, T0 + 5]
        with bounded.begin() as session:
            assert [one.job_id for one in queue.expire(session, now=T0 + 161)] == [sooner, waiting]


def test_the_wish_to_finish_early_reaches_the_worker_and_outlives_it(shop: Shop):
    lease = measured(shop)
    wish(shop, jobs.finish_early, lease.job_id)
    with shop.database.begin() as session:
        assert jobs.renew(session, lease, now=T0 + 1, lease_s=30).finish_early
        queue.reap(session, now=T0 + 60)
    again = shop.claimed(lease.job_id, now=T0 + 60)
    with shop.database.begin() as session:
        assert jobs.renew(session, again, now=T0 + 61, lease_s=30).finish_early
        assert events.record(session, again, [], now=T0 + 61, lease_s=30, journal_offset=0).finish_early


def test_a_paused_job_is_queued_to_finish_early(shop: Shop):
    job_id = paused(shop, measured(shop))
    assert wish(shop, jobs.finish_early, job_id) is JobState.QUEUED
    assert shop.job(job_id).finish_early


def test_time_counts_while_attempts_run_and_not_while_the_job_waits(shop: Shop):
    job_id = paused(shop, shop.running())
    assert shop.job(job_id).run_s == 2.0
    wish(shop, jobs.resume, job_id, T0 + 1000)
    lost = shop.claimed(job_id, now=T0 + 2000)
    with shop.database.begin() as session:
        queue.reap(session, now=T0 + 9000)  # nobody knows for how long after its last renewal the worker lived
    assert shop.job(lost.job_id).run_s == 2.0 + 30.0


@pytest.mark.parametrize("go_on", [True, False])
def test_a_job_that_repeats_another_knows_it_and_takes_over_what_it_saved_if_asked(shop: Shop, go_on: bool):
    from retort.db import artifacts

    lease = shop.running()
    saved = {"job_id": lease.job_id, "attempt": 1, "stage": "distill", "epoch": 3, "files": []}
    with shop.database.begin() as session:
        artifacts.record_recovery(session, lease, saved, now=T0)
        jobs.cancel(session, lease.job_id, now=T0, actor="client")
        transitions.mark_cancelled(session, lease, now=T0, exit_code=75)
    parent = shop.job(lease.job_id)
    assert parent.recovery == saved
    child = shop.job(shop.queued(parent=parent, go_on=go_on))
    assert (child.parent_id, child.recovery) == (parent.id, saved if go_on else None)
