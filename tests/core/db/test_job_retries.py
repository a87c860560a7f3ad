"""Which failures are tried again, how often, how soon, and with what learned."""

from __future__ import annotations

import pytest
from retort import errors
from retort.constants import MAP, Role
from retort.db import events, transitions
from retort.db.transitions import Lease
from retort.protocol.events import MetricEvent, RunFailure
from retort.states import JobState
from support.db_harness import T0, Shop


def fails(shop: Shop, job_id: str, failure: RunFailure) -> list[JobState]:
    """Let the job fail in the same way until it is tried no more; return the states it went to."""
    states, now = [], T0
    while not states or states[-1] is JobState.QUEUED:
        now += errors.LONGEST_PAUSE_S
        lease = shop.claimed(job_id, now=now)
        with shop.database.begin() as session:
            states.append(transitions.fail(session, lease, now=now, failure=failure, exit_code=1))
    return states


@pytest.mark.parametrize("code", errors.CLASSES)
def test_each_class_of_failures_is_tried_again_as_often_as_it_says(shop: Shop, code: str):
    kind = errors.failure_class(code)
    states = fails(shop, shop.queued(retries=20), RunFailure(code=code, message="x", retryable=kind.retries > 0))
    assert states == [JobState.QUEUED] * min(kind.retries, 20) + [JobState.FAILED]


def test_a_jobs_own_budget_ends_its_retries_too(shop: Shop):
    states = fails(shop, shop.queued(retries=2), RunFailure(code="lost_worker", message="x", retryable=True))
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]


def test_failures_of_one_class_do_not_use_up_the_tries_of_another(shop: Shop):
    job_id, now, states = shop.queued(retries=100), T0, []
    for code in ("cuda_error", "crashed", "cuda_error", "crashed", "cuda_error"):
        now += errors.LONGEST_PAUSE_S
        lease = shop.claimed(job_id, now=now)
        with shop.database.begin() as session:
            failure = RunFailure(code=code, message="x", retryable=True)
            states.append(transitions.fail(session, lease, now=now, failure=failure, exit_code=1))
    assert states == [JobState.QUEUED] * 4 + [JobState.FAILED]


def test_each_further_retry_waits_twice_as_long_up_to_a_limit():
    kind = errors.failure_class("disk_full")
    assert [kind.pause_s(earlier) for earlier in range(6)] == [60, 120, 240, 480, 600, 600]


@pytest.mark.parametrize(
    ("resources", "batch", "expected"),
    [
        ({"halve_batch": True}, 16, 8),
        ({"halve_batch": True, "gpus": 3}, 18, 9),
        ({"halve_batch": True, "gpus": 4}, 12, 4),
        ({"halve_batch": False}, 16, None),
        ({"halve_batch": True}, 2, None),
    ],
)
def test_out_of_memory_is_tried_once_with_half_the_batch_where_the_spec_allows_it(
    shop: Shop, resources: dict[str, int], batch: int, expected: int | None
):
    document = shop.spec.model_dump(mode="json")
    shop.spec = type(shop.spec).model_validate({**document, "training": {**document["training"], "batch": batch}})
    job_id = shop.queued(resources=resources)
    states = fails(shop, job_id, RunFailure(code="out_of_memory", message="x"))
    assert states == ([JobState.FAILED] if expected is None else [JobState.QUEUED, JobState.FAILED])
    assert shop.job(job_id).adjustments == (expected and {"batch": expected})


def test_a_batch_that_the_run_has_found_is_halved_by_the_run_and_once(shop: Shop):
    document = shop.spec.model_dump(mode="json")
    shop.spec = type(shop.spec).model_validate({**document, "training": {**document["training"], "batch": "auto"}})
    job_id = shop.queued(resources={"halve_batch": True})
    assert fails(shop, job_id, RunFailure(code="out_of_memory", message="x")) == [JobState.QUEUED, JobState.FAILED]
    assert shop.job(job_id).adjustments == {"halved": True}


def test_after_shared_memory_ran_out_no_process_loads_images(shop: Shop):
    job_id = shop.queued()
    fails(shop, job_id, RunFailure(code="shared_memory", message="x", retryable=True))
    assert shop.job(job_id).adjustments == {"loader_workers": 0}


LOST = RunFailure(code="lost_worker", message="x", retryable=True)


def loses(shop: Shop, job_id: str, *, number: int, epoch: int | None, failure: RunFailure = LOST) -> JobState | None:
    """Let attempt *number* measure *epoch*, then fail."""
    now = T0 + number * errors.LONGEST_PAUSE_S
    lease = shop.claimed(job_id, now=now)
    if epoch is not None:
        measures(shop, lease, epoch)
    with shop.database.begin() as session:
        return transitions.fail(session, lease, now=now, failure=failure, exit_code=1)


def measures(shop: Shop, lease: Lease, epoch: int) -> None:
    said = MetricEvent(n=1, at=T0, role=Role.STUDENT, step=epoch, values={MAP: 0.5})
    with shop.database.begin() as session:
        assert events.record(session, lease, [said], now=T0, lease_s=30, journal_offset=10)


@pytest.mark.parametrize("code", ["lost_worker", "killed", "stuck"])
def test_a_laptop_that_is_suspended_again_and_again_fails_no_job_that_gets_further_each_time(shop: Shop, code: str):
    job_id, failure = shop.queued(retries=3), RunFailure(code=code, message="x", retryable=True)
    states = [loses(shop, job_id, number=number, epoch=number, failure=failure) for number in range(1, 13)]
    assert set(states) == {JobState.QUEUED}
    assert shop.job(job_id).retries_left == 2


@pytest.mark.parametrize("epoch", [None, 0, 5])
def test_attempts_that_end_no_further_epoch_use_the_retries_up(shop: Shop, epoch: int | None):
    job_id = shop.queued(retries=3)
    assert loses(shop, job_id, number=1, epoch=5) is JobState.QUEUED
    states = [loses(shop, job_id, number=number, epoch=epoch) for number in range(2, 5)]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]


def test_progress_gives_back_the_retries_that_earlier_attempts_used(shop: Shop):
    job_id = shop.queued(retries=2)
    states = [loses(shop, job_id, number=n, epoch=epoch) for n, epoch in enumerate((None, None, 1, None, None), 1)]
    assert states == [JobState.QUEUED] * 4 + [JobState.FAILED]
