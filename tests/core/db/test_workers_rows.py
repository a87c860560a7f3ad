"""Which workers run, and for what a queued job waits."""

from __future__ import annotations

from typing import Any

import pytest
from retort.db import queue, transitions, workers
from retort.db.models import WorkerRow
from retort.db.waiting import QueueWait, snapshot
from retort.protocol.events import RunFailure
from support.db_harness import T0, Shop

LEASE_S = 30.0


def announced(
    shop: Shop, name: str, *, gpus: int = 0, at: float = T0, devices: list[dict[str, Any]] | None = None
) -> None:
    with shop.database.begin() as session:
        row = WorkerRow(name=name, host="host", slots=1, gpus=gpus, devices=devices or [], started_at=at, seen_at=at)
        workers.announce(session, row)


def seen(shop: Shop, *, at: float = T0) -> list[str]:
    with shop.database.read() as session:
        return [worker.name for worker in workers.running(session, now=at, within_s=LEASE_S)]


def waiting(shop: Shop, job_id: str, *, at: float = T0) -> QueueWait | None:
    with shop.database.read() as session:
        return snapshot(session, now=at, within_s=LEASE_S).of(job_id)


def test_a_worker_is_running_while_it_announces_itself(shop: Shop):
    announced(shop, "a")
    announced(shop, "b", at=T0 - 2 * LEASE_S)
    assert seen(shop) == ["a"]
    announced(shop, "a", at=T0 + LEASE_S)
    assert seen(shop, at=T0 + LEASE_S) == ["a"]
    with shop.database.begin() as session:
        workers.leave(session, "a")
    assert seen(shop, at=T0 + LEASE_S) == []


def test_announcing_again_keeps_when_it_began_and_forgets_those_long_gone(shop: Shop):
    announced(shop, "old")
    announced(shop, "a", at=T0 + 1)
    announced(shop, "a", at=T0 + 2 * workers.FORGET_S)
    with shop.database.read() as session:
        rows = session.query(WorkerRow).all()
    assert [(row.name, row.started_at, row.seen_at) for row in rows] == [("a", T0 + 1, T0 + 2 * workers.FORGET_S)]


def test_the_place_in_the_queue_counts_higher_priorities_and_older_jobs(shop: Shop):
    announced(shop, "a")
    first, second, urgent = shop.queued(), shop.queued(), shop.queued(priority=5)

    places = {job: found.position for job in (first, second, urgent) if (found := waiting(shop, job))}

    assert places == {urgent: 1, first: 2, second: 3}


def test_without_a_worker_that_is_the_reason(shop: Shop):
    found = waiting(shop, shop.queued())
    assert found is not None
    assert (found.reason, found.num_workers) == ("no_worker", 0)


@pytest.mark.parametrize(
    ("machines", "wanted", "reason"),
    [
        ([0], 1, "turn"),
        ([0], 4, "turn"),  # on a CPU: so many processes
        ([1], 1, "turn"),
        ([1, 2], 2, "turn"),
        ([1, 2], 4, "too_many_gpus"),
        ([0, 2], 4, "too_many_gpus"),
    ],
)
def test_a_job_that_no_worker_can_take_is_told_apart_from_one_whose_turn_will_come(
    shop: Shop, machines: list[int], wanted: int, reason: str
):
    for number, gpus in enumerate(machines):
        announced(shop, str(number), gpus=gpus)

    found = waiting(shop, shop.queued(resources={"gpus": wanted}))

    assert found is not None
    assert (found.reason, found.most_gpus, found.num_workers) == (reason, max(machines), len(machines))


def device(kind: str, *, refused: str | None = None) -> dict[str, Any]:
    return {"kind": kind, "name": "0", "product": "T4", "refused": refused}


ON_CPU, REFUSED = device("cpu"), device("gpu", refused="its driver is too old")
IDLE = [REFUSED, device("cpu", refused="the operator does not allow it")]


@pytest.mark.parametrize(
    ("devices", "require_gpu", "reason"),
    [
        ([ON_CPU], None, "turn"), ([ON_CPU], False, "turn"), ([ON_CPU], True, "no_gpu"),
        (IDLE, None, "no_gpu"), (IDLE, False, "turn"), (IDLE, True, "no_gpu"),
        ([REFUSED, ON_CPU], None, "turn"), ([REFUSED, ON_CPU], True, "no_gpu"),
        ([], None, "turn"), ([], True, "no_gpu"),  # a worker from before it told its devices
        ([REFUSED], None, "no_gpu"),  # what it has is quarantined
    ],
)  # fmt: skip
def test_a_job_that_waits_for_a_gpu_says_so_and_is_claimed_by_no_cpu(
    shop: Shop, devices: list[dict[str, Any]], *, require_gpu: bool | None, reason: str
):
    """It waited in silence, or was taken and failed."""
    announced(shop, "a", devices=devices)
    job_id = shop.queued(resources={"require_gpu": require_gpu})

    found = waiting(shop, job_id)

    assert found is not None
    assert found.reason == reason
    assert found.refused == (("GPU 0 (T4) of host: its driver is too old",) if REFUSED in devices else ())
    on_cpu: queue.OnCpu = "if_spec_allows" if devices == IDLE else "unless_gpu_required"
    if devices != [REFUSED]:
        assert shop.claimable(on_cpu=on_cpu) == ([job_id] if reason == "turn" else [])
    assert shop.claimable(gpus=1) == [job_id]


def test_where_a_worker_has_a_gpu_the_job_waits_for_its_turn(shop: Shop):
    announced(shop, "idle", devices=IDLE)
    announced(shop, "busy", gpus=1, devices=[device("gpu")])
    assert {
        found.reason for wish in (True, False, None)
        if (found := waiting(shop, shop.queued(resources={"require_gpu": wish})))
    } == {"turn"}  # fmt: skip


def test_a_retry_says_until_when_it_waits(shop: Shop, retryable: RunFailure):
    announced(shop, "a")
    lease = shop.running()
    with shop.database.begin() as session:
        transitions.fail(session, lease, now=T0, failure=retryable, exit_code=1)

    found = waiting(shop, lease.job_id)

    assert found is not None
    assert found.reason == "retry"
    assert found.until == shop.job(lease.job_id).claimable_at > T0


def test_a_job_that_is_not_queued_waits_for_nothing(shop: Shop):
    job_id = shop.queued()
    shop.claimed(job_id)
    assert waiting(shop, job_id) is None


def set_drained(shop: Shop, name: str, *, at: float | None) -> None:
    with shop.database.begin() as session:
        workers.drain(session, name, at=at, now=T0, within_s=LEASE_S)


def test_a_drained_worker_stays_so_when_it_announces_itself_and_counts_for_no_job(shop: Shop):
    announced(shop, "a", gpus=2)
    job_id = shop.queued(resources={"gpus": 2})
    set_drained(shop, "a", at=T0)
    announced(shop, "a", gpus=2)

    found = waiting(shop, job_id)
    assert found is not None
    assert (found.reason, found.num_workers, found.num_drained) == ("no_worker", 0, 1)
    with shop.database.read() as session:
        assert workers.gpus_elsewhere(session, now=T0, within_s=LEASE_S) == 0
    announced(shop, "b", gpus=1)
    assert (found := waiting(shop, job_id)) is not None
    assert found.reason == "too_many_gpus"
    set_drained(shop, "a", at=None)
    assert (found := waiting(shop, job_id)) is not None
    assert (found.reason, found.num_workers) == ("turn", 2)


def test_only_a_worker_that_runs_is_drained_and_again_keeps_since_when(shop: Shop):
    announced(shop, "a")
    announced(shop, "gone", at=T0 - 2 * LEASE_S)
    with pytest.raises(workers.WorkerNotFound, match="gone"):
        set_drained(shop, "gone", at=T0)
    set_drained(shop, "a", at=T0)
    set_drained(shop, "a", at=T0 + 1)
    with shop.database.read() as session:
        assert session.get_one(WorkerRow, "a").drained_at == T0
