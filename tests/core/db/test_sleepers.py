"""A client that falls asleep in the middle of a statement keeps its job's row from nobody for long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from retort.db import Database, queue
from retort.spec import JobSpec
from servers import Postgres
from support.db_harness import T0, Shop


@pytest.fixture
def shop(postgres_url: str, spec: JobSpec) -> Iterator[Shop]:
    with closing(Database(postgres_url)) as database:
        yield Shop(database, spec)


@pytest.fixture
def sleeper(postgres: Postgres, postgres_scratch: str) -> Iterator[psycopg.Connection]:
    made = psycopg.connect(f"host={postgres.folder} user=postgres dbname={postgres_scratch}", autocommit=True)
    yield made
    made.close()


def test_a_row_that_a_sleeping_client_holds_is_reaped_all_the_same(shop: Shop, sleeper: psycopg.Connection):
    lease = shop.running()
    wire = sleeper.pgconn
    wire.enter_pipeline_mode()
    wire.send_query_params(b"BEGIN", [])
    wire.send_query_params(b"SELECT id FROM jobs WHERE id = $1 FOR UPDATE", [lease.job_id.encode()])
    wire.send_flush_request()  # and no end of the message: this is where it falls asleep
    while wire.flush():
        pass
    deadline = time.monotonic() + 30
    # The server's own timeout would not help: to it, this client is at work.
    states = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND wait_event = 'ClientRead'"
    with psycopg.connect(sleeper.info.dsn) as other:
        while other.execute(states, (wire.backend_pid,)).fetchone() is None:
            assert time.monotonic() < deadline
    with shop.database.begin() as session:
        assert queue.reap(session, now=T0 + 31) == []
        assert queue.wake(session, idle_s=60.0) == 0
        assert queue.wake(session, idle_s=0.0) == 1
    while True:
        with shop.database.begin() as session:
            if reaped := queue.reap(session, now=T0 + 31):
                break
        assert time.monotonic() < deadline
    assert [found.job_id for found in reaped] == [lease.job_id]


def test_a_client_that_falls_asleep_after_a_pipeline_is_thrown_out_as_well(shop: Shop, sleeper: psycopg.Connection):
    sleeper.execute("BEGIN")
    sleeper.cursor().executemany("SELECT %s", [(1,), (2,)])
    with shop.database.begin() as session:
        assert queue.wake(session, idle_s=60.0) == 0
        assert queue.wake(session, idle_s=0.0) == 1


def test_clients_at_work_are_left_alone(shop: Shop):
    shop.running()
    with shop.database.begin() as session:
        assert queue.wake(session, idle_s=0.0) == 0
