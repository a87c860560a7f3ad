"""Whole worker processes, with notifications and without them."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import psycopg
from retort.db import jobs
from retort.states import AttemptState, JobState
from servers import Postgres, Valkey, free_port, running
from sqlalchemy import text
from support.worker_harness import PATIENCE_S, House, alive, eventually, halt

NEVER = 3600.0
"""A poll or a reaping that does not come during a test."""


def ready(house: House, number: int = 0) -> None:
    """Wait until the worker's broker client listens."""
    eventually(lambda: " ready." in house.log(number))


def test_the_bell_starts_a_run_within_two_seconds(rung_house: House):
    rung_house.worker(poll_s=NEVER)
    ready(rung_house)
    job_id = rung_house.submit("wait")
    rung_house.ring(job_id)
    rung = time.monotonic()
    rung_house.wait(job_id, JobState.RUNNING)
    assert time.monotonic() - rung < 2.0
    rung_house.cancel(job_id)
    rung_house.wait(job_id, JobState.CANCELLED)


def test_a_doubled_bell_runs_the_job_once(rung_house: House):
    job_id = rung_house.submit("finish")
    rung_house.ring(job_id, times=5)
    rung_house.worker(poll_s=NEVER, slots=3)
    rung_house.wait(job_id, JobState.SUCCEEDED)
    last = rung_house.submit("finish")
    rung_house.ring(last)
    rung_house.wait(last, JobState.SUCCEEDED)
    assert len(rung_house.attempts(job_id)) == 1


def test_a_job_that_nobody_rang_for_is_found_and_so_is_the_next_when_the_slot_is_free(small_house: House):
    jobs = [small_house.submit("finish") for _ in range(3)]
    small_house.worker()
    for job_id in jobs:
        assert small_house.wait(job_id).state is JobState.SUCCEEDED
    spans = sorted((row.started_at, row.ended_at) for job_id in jobs for row in small_house.attempts(job_id))
    assert all(ended <= started for (_, ended), (started, _) in pairwise(spans))


def test_with_a_dead_broker_jobs_still_run_and_the_worker_still_drains(small_house: House):
    small_house.broker_url = f"redis://127.0.0.1:{free_port()}/0"
    job_id = small_house.submit("finish")
    worker = small_house.worker()
    assert small_house.wait(job_id).state is JobState.SUCCEEDED
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0


def test_a_broker_that_comes_and_goes_is_told_once_for_each_change(small_house: House):
    lost, found, port = (
        "the broker cannot be reached",
        "the broker is reached again",
        free_port(),
    )

    def told(word: str) -> int:
        return small_house.log().count(word)

    def broker() -> Valkey:
        server = Valkey()
        server.port = port
        return server

    small_house.broker_url = broker().url()
    small_house.worker(poll_s=NEVER)
    eventually(lambda: told(lost))
    with running(broker()):
        eventually(lambda: told(found))
    eventually(lambda: told(lost) == 2)
    with running(broker()):
        eventually(lambda: told(found) == 2)
    eventually(lambda: told(lost) == 3)
    for useless in ("Trying again in", "DeprecationWarning", "prefetch"):
        assert useless not in small_house.log()
    assert "Trying to reconnect" not in small_house.log()


def test_a_draining_worker_hands_its_job_back_and_leaves_without_waiting_for_the_training(rung_house: House):
    job_id = rung_house.submit("steps", epochs=10_000, retries=2)
    worker = rung_house.worker(poll_s=NEVER)
    ready(rung_house)
    rung_house.ring(job_id)
    eventually(lambda: rung_house.steps(job_id))
    later = rung_house.submit("finish")
    worker.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    job = rung_house.wait(job_id, JobState.QUEUED)
    assert time.monotonic() - asked < 2.0
    assert worker.wait(PATIENCE_S) == 0
    assert job.retries_left == 2
    assert rung_house.attempts(job_id)[0].state is AttemptState.HANDED_BACK
    assert rung_house.job(later).state is JobState.QUEUED


def test_a_draining_worker_kills_a_run_that_does_not_listen(small_house: House):
    job_id = small_house.submit("stubborn", retries=1)
    worker = small_house.worker(grace_s=0.5)
    child = eventually(lambda: small_house.child(job_id))
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_S) == 0
    assert not alive(child)
    assert small_house.job(job_id).state is JobState.QUEUED
    assert small_house.job(job_id).retries_left == 1


def test_a_second_signal_quits_at_once_and_leaves_no_process(small_house: House):
    job_id = small_house.submit("stubborn")
    worker = small_house.worker(grace_s=NEVER)
    child = eventually(lambda: small_house.child(job_id))
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in small_house.log())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 1
    eventually(lambda: not alive(child))


def test_a_killed_worker_leaves_no_process_and_no_gap(house: House):
    job_id = house.submit("steps", epochs=400)
    first = house.worker(lease_s=3.0)
    eventually(lambda: house.steps(job_id))
    # Stopped, it records nothing, so the run's next lines are in the journal only.
    halt(first)
    recorded = len(house.steps(job_id))
    written = house.workdir(job_id) / "step.txt"
    eventually(lambda: int(written.read_text()) > recorded + 20)
    first.kill()
    first.wait()
    eventually(lambda: house.run_is_gone(job_id))
    house.worker()
    job = house.wait(job_id)
    assert job.state is JobState.SUCCEEDED
    assert house.steps(job_id) == list(range(1, 401))
    assert [row.state for row in house.attempts(job_id)] == [AttemptState.LOST, AttemptState.SUCCEEDED]
    numbers = [row.n for row in house.events(job_id) if row.attempt == 1 and row.n is not None]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_killed_worker_takes_the_whole_group_of_its_run_along(small_house: House):
    job_id = small_house.submit("stubborn")
    worker = small_house.worker()
    child = eventually(lambda: small_house.child(job_id))
    worker.kill()
    eventually(lambda: not alive(child))


def test_a_worker_that_slept_past_its_lease_writes_nothing_when_it_wakes(house: House):
    job_id = house.submit("linger", epochs=100)
    sleeper = house.worker(lease_s=3.0)
    eventually(lambda: house.steps(job_id))
    # On SQLite, whoever is stopped in mid-transaction stops all others with him.
    with house.database.begin() as session:
        session.execute(text("SELECT 1"))  # a transaction begins with its first statement
        halt(sleeper)
    rescued(house, sleeper, job_id)


def test_a_worker_that_fell_asleep_in_a_transaction_is_thrown_out_of_it(
    tmp_path: Path, postgres: Postgres, postgres_url: str
):
    with closing(House(tmp_path, postgres_url, f"sqla+sqlite:///{tmp_path / 'broker.db'}")) as house:
        job_id = house.submit("linger", epochs=100)
        sleeper = house.worker(lease_s=3.0)
        eventually(lambda: house.steps(job_id))
        with house.database.begin() as session:
            jobs.cancel(session, job_id, now=0.0, actor="test")  # locks the job's row
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            with psycopg.connect(f"host={postgres.folder} user=postgres dbname=postgres") as other:
                eventually(lambda: other.execute(waiting).fetchone())
            halt(sleeper)
            session.rollback()
        rescued(house, sleeper, job_id)


def rescued(house: House, sleeper: subprocess.Popen[bytes], job_id: str) -> None:
    """Another worker takes the job of the sleeper, which then wakes."""
    house.worker()
    eventually(lambda: house.job(job_id).attempt == 2)
    sleeper.send_signal(signal.SIGCONT)
    assert house.wait(job_id).state is JobState.SUCCEEDED
    assert house.steps(job_id) == list(range(1, 101))
    assert [row.state for row in house.attempts(job_id)] == [AttemptState.LOST, AttemptState.SUCCEEDED]
    eventually(lambda: "lease lost" in house.log())
    lines = [row.n for row in house.events(job_id) if row.attempt == 1 and row.n is not None]
    assert lines == list(range(1, len(lines) + 1))
