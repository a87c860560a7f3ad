"""Clocks that are set and machines that sleep cost no job, no retry and no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from retort.db import DatabaseUnavailable, clock, events, queue, transitions, workers
from retort.db.clock import ClockChange, ClockWatch
from retort.db.models import AttemptRow, WorkerRow
from retort.db.queue import ReapedJob
from retort.db.transitions import Lease
from retort.protocol.events import RunFailure
from retort.states import AttemptState, JobState
from support.db_harness import LEASE_S, T0, Shop

TWO_HOURS = 7200.0
HALT_S = LEASE_S / 2
"""More than clocks may differ by, less than a lease."""


READ = ("wall", "awake", "booted")


@dataclass
class Machine:
    """A machine whose clocks a test turns, with the reaper that runs on it."""

    shop: Shop
    wall: float = T0
    awake: float = 50.0
    booted: float = 100.0
    halts_at: str | None = None
    halts_once: bool = True
    halt: Callable[[float], None] = field(init=False)

    def __post_init__(self) -> None:
        self.watch = self.another_watch()
        self.halt = self.live

    def another_watch(self) -> ClockWatch:
        return ClockWatch(
            LEASE_S,
            wall=lambda _: self.read("wall"),
            monotonic=lambda: self.read("awake"),
            boottime=lambda: self.read("booted"),
        )

    def read(self, clock: str) -> float:
        """One reading of a clock, before or after which the reader may be kept from going on."""
        self.held(f"before {clock}")
        value: float = getattr(self, clock)
        self.held(f"after {clock}")
        return value

    def held(self, where: str) -> None:
        if where == self.halts_at:
            self.halts_at = None if self.halts_once else where
            self.halt(HALT_S)

    def live(self, seconds: float) -> None:
        self.wall, self.awake, self.booted = self.wall + seconds, self.awake + seconds, self.booted + seconds

    def sleep(self, seconds: float) -> None:
        self.wall, self.booted = self.wall + seconds, self.booted + seconds

    def set_clock(self, by_s: float) -> None:
        self.wall += by_s

    def reap(self, watch: ClockWatch | None = None) -> tuple[ClockChange | None, list[ReapedJob]]:
        """One pass of the reaper, as the worker makes it."""
        changed = (watch or self.watch).look(self.shop.database)
        if changed:
            return changed, []
        with self.shop.database.begin() as session:
            return None, queue.reap(session, now=self.wall) + queue.expire(session, now=self.wall)

    def renew(self, lease: Lease) -> bool:
        """One heartbeat of the worker."""
        with self.shop.database.begin() as session:
            return events.record(session, lease, [], now=self.wall, lease_s=LEASE_S, journal_offset=0) is not None


@pytest.fixture
def machine(shop: Shop) -> Machine:
    machine = Machine(shop)
    machine.reap()
    return machine


def finished(shop: Shop, lease: Lease, now: float) -> Any:
    with shop.database.begin() as session:
        assert transitions.finish(session, lease, JobState.SUCCEEDED, now=now, exit_code=0)
    return shop.job(lease.job_id)


def retried(shop: Shop, lease: Lease, now: float) -> None:
    failure = RunFailure(code="unavailable", message="away", retryable=True)
    with shop.database.begin() as session:
        transitions.release(session, lease, AttemptState.FAILED, now=now, actor="w1", failure=failure)


@pytest.mark.parametrize("step", [TWO_HOURS, -TWO_HOURS])
def test_a_clock_set_by_two_hours_takes_no_job_from_its_worker_and_counts_no_time(machine: Machine, step: float):
    """Forward, the reaper took every job of every worker; back, durations were negative."""
    lease = machine.shop.running(retries=1)
    machine.live(10)
    machine.renew(lease)
    machine.set_clock(step)
    machine.live(5)
    changed, reaped = machine.reap()
    assert changed is not None
    assert changed.step_s == pytest.approx(step)
    assert reaped == []
    assert machine.renew(lease)
    machine.live(5)
    assert machine.reap() == (None, [])
    job = finished(machine.shop, lease, machine.wall)
    assert (job.state, job.retries_left) == (JobState.SUCCEEDED, 1)
    assert job.run_s == pytest.approx(20)
    assert job.created_at <= job.started_at <= job.finished_at


def test_a_dead_workers_job_does_not_stall_for_as_long_as_the_clock_was_set_back(machine: Machine):
    lease = machine.shop.running()
    machine.set_clock(-TWO_HOURS)
    machine.live(5)
    machine.reap()
    machine.live(LEASE_S + 1)
    assert machine.reap() == (None, [ReapedJob(lease.job_id, JobState.QUEUED)])


def test_a_service_that_starts_after_the_clock_was_set_back_waits_no_longer_either(machine: Machine):
    lease, paused = machine.shop.running(), machine.shop.running()
    retried(machine.shop, paused, machine.wall)
    machine.set_clock(-TWO_HOURS)
    started = machine.another_watch()
    assert machine.reap(started) == (None, [])
    assert machine.shop.claimable(now=machine.wall) == [paused.job_id]
    machine.live(LEASE_S + 1)
    assert machine.reap(started)[1] == [ReapedJob(lease.job_id, JobState.QUEUED)]


@pytest.mark.parametrize("step", [TWO_HOURS, -TWO_HOURS])
def test_limits_on_waiting_and_pauses_last_as_long_as_they_said(machine: Machine, step: float):
    """Set forward, jobs expired that had waited for minutes."""
    waiting = machine.shop.queued(resources={"max_queue_s": 3600.0})
    machine.live(600)
    machine.reap()
    machine.set_clock(step)
    machine.live(5)
    machine.reap()
    machine.live(2900)
    assert machine.reap() == (None, [])
    machine.live(100)
    assert machine.reap()[1] == [ReapedJob(waiting, JobState.EXPIRED)]


def test_four_suspends_in_a_row_use_no_retry(machine: Machine):
    """With three retries, a laptop that slept four times in one epoch had lost its job."""
    lease = machine.shop.running(retries=3)
    for _ in range(4):
        machine.live(20)
        assert machine.renew(lease)
        machine.sleep(TWO_HOURS)
        machine.live(1)
        changed, reaped = machine.reap()
        assert (changed is not None, reaped) == (True, [])
        assert changed is None or changed.suspended_s == pytest.approx(TWO_HOURS)
        machine.live(5)
        assert machine.renew(lease), "the worker renews once it is awake"
        assert machine.reap() == (None, [])
    assert machine.shop.job(lease.job_id).retries_left == 3


def test_reapers_beside_each_other_absorb_a_step_once(machine: Machine):
    others = [machine.another_watch() for _ in range(3)]
    for watch in others:
        machine.reap(watch)
    waiting = machine.shop.queued(resources={"max_queue_s": 3600.0})
    expires = machine.shop.job(waiting).expires_at
    for _ in range(2):
        machine.set_clock(TWO_HOURS)
        machine.live(5)
        assert all(machine.reap(watch)[0] for watch in (machine.watch, *others))
    assert machine.shop.job(waiting).expires_at == pytest.approx(expires + 2 * TWO_HOURS)


def test_workers_that_are_gone_do_not_count_as_running_after_the_clock_was_set_back(machine: Machine):
    with machine.shop.database.begin() as session:
        gone = WorkerRow(name="gone", host="h", slots=1, gpus=1, devices=[], started_at=T0, seen_at=T0)
        workers.announce(session, gone)
    machine.set_clock(-TWO_HOURS)
    machine.live(LEASE_S + 5)
    machine.reap()
    with machine.shop.database.read() as session:
        assert workers.running(session, now=machine.wall, within_s=LEASE_S) == []


def test_what_ends_before_the_step_is_seen_still_lasted_no_less_than_nothing(machine: Machine):
    lease = machine.shop.running()
    machine.set_clock(-TWO_HOURS)
    job = finished(machine.shop, lease, machine.wall)
    assert job.run_s == 0
    assert job.started_at == job.finished_at
    with machine.shop.database.read() as session:
        attempt = session.get(AttemptRow, (lease.job_id, 1))
        assert attempt is not None
        assert (attempt.state, attempt.ended_at) == (AttemptState.SUCCEEDED, attempt.started_at)


def test_an_ordinary_delay_is_no_step(machine: Machine):
    """A machine under load looks late; its clocks agree."""
    lease = machine.shop.running()
    machine.live(LEASE_S * 3)
    assert machine.reap() == (None, [ReapedJob(lease.job_id, JobState.QUEUED)])


@pytest.mark.parametrize("where", [f"{when} {clock}" for when in ("before", "after") for clock in READ])
@pytest.mark.parametrize("suspended", [False, True])
def test_a_reader_that_is_stopped_between_two_clocks_takes_that_for_no_step(
    machine: Machine, where: str, suspended: bool
):
    """It moved the leases of every worker back by its own pause, and their jobs were taken from them."""
    lease = machine.shop.running()
    waiting = machine.shop.queued(resources={"max_queue_s": 3600.0})
    until, expires = machine.shop.job(lease.job_id).lease_until, machine.shop.job(waiting).expires_at
    machine.halts_at, machine.halt = where, machine.sleep if suspended else machine.live
    for _ in range(2):
        machine.live(1)
        changed, reaped = machine.reap()
        assert (changed.step_s if changed else 0.0, reaped) == (pytest.approx(0.0), [])
    assert machine.halts_at is None
    slept = HALT_S if suspended and machine.shop.database.engine.dialect.name == "sqlite" else 0.0
    assert machine.shop.job(lease.job_id).lease_until - until == pytest.approx(slept)
    assert machine.shop.job(waiting).expires_at - expires == pytest.approx(slept)


def test_a_step_that_comes_while_the_reader_is_stopped_is_absorbed_at_its_size(machine: Machine):
    waiting = machine.shop.queued(resources={"max_queue_s": 3600.0})
    expires = machine.shop.job(waiting).expires_at
    machine.halts_at = "after wall"

    def halt(seconds: float) -> None:
        machine.live(seconds)
        machine.set_clock(TWO_HOURS)

    machine.halt = halt
    changed, reaped = machine.reap()
    assert (changed and changed.step_s, reaped) == (pytest.approx(TWO_HOURS), [])
    assert machine.shop.job(waiting).expires_at == pytest.approx(expires + TWO_HOURS)


def test_a_database_that_takes_long_to_tell_the_time_takes_no_job_by_it(machine: Machine):
    lease = machine.shop.running()
    machine.live(LEASE_S + 1)
    machine.halts_at, machine.halts_once = "before wall", False
    with pytest.raises(DatabaseUnavailable, match=r"took 15\.0 s to tell the time"):
        machine.reap()
    machine.halts_at = None
    assert machine.reap() == (None, [ReapedJob(lease.job_id, JobState.QUEUED)])


def test_a_step_whose_transaction_fails_is_absorbed_by_the_next_look(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    """The watch had seen it, and nobody told the database: every lease ran out."""
    lease = machine.shop.running(retries=0)
    machine.set_clock(TWO_HOURS)
    machine.live(5)
    with monkeypatch.context() as broken:
        broken.setattr(clock, "end_strayed", refuse)
        with pytest.raises(DatabaseUnavailable):
            machine.reap()
    changed, reaped = machine.reap()
    assert (changed and changed.step_s, reaped) == (pytest.approx(TWO_HOURS), [])
    assert machine.renew(lease)


def refuse(*_: Any, **__: Any) -> None:
    raise DatabaseUnavailable("the database is not available: the disk is full")


def test_a_watch_that_came_second_to_one_step_absorbs_the_next_when_it_is_alone(machine: Machine):
    other = machine.another_watch()
    machine.reap(other)
    waiting = machine.shop.queued(resources={"max_queue_s": 3600.0})
    expires = machine.shop.job(waiting).expires_at
    machine.set_clock(TWO_HOURS)
    assert all(machine.reap(watch)[0] for watch in (machine.watch, other))
    machine.set_clock(TWO_HOURS)
    assert machine.reap(other)[0]
    assert machine.shop.job(waiting).expires_at == pytest.approx(expires + 2 * TWO_HOURS)
