"""Transactions behave alike on both databases, and an absent database is a world error, not a crash."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest
from retort.db import Database, DatabaseUnavailable, job_list, jobs, migrate, queue, transitions
from retort.db.models import AttemptRow
from retort.db.session import add, database_now
from retort.db.transitions import Lease
from retort.spec import JobSpec
from retort.states import JobState
from servers import Postgres, running
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support.db_harness import T0, Shop, at_once


def test_the_clock_is_the_databases_and_close_to_ours(database: Database):
    before = time.time()
    with database.begin() as session:
        first = database_now(session)
        deadline = time.monotonic() + 5
        while (later := database_now(session)) <= first:  # it goes on inside a transaction
            assert time.monotonic() < deadline
    assert before - 1 < first < later < time.time() + 1


def test_readers_do_not_wait_for_a_writer_and_do_not_see_what_is_not_committed(shop: Shop):
    with shop.database.begin() as writing:
        jobs.submit(writing, shop.spec, now=T0, retries=0)
        with shop.database.read() as reading:
            assert job_list.page(reading) == []
    with shop.database.read() as reading:
        assert len(job_list.page(reading)) == 1


def test_a_read_sees_one_moment_from_its_first_to_its_last_statement(shop: Shop):
    first = shop.queued()
    with shop.database.read() as session:
        assert [job.id for job in job_list.page(session)] == [first]
        shop.claimed(first)
        shop.queued()
        assert [job.id for job in job_list.page(session)] == [first]


def test_writers_queue_up_and_none_is_lost(shop: Shop):
    at_once(lambda _number: [shop.queued() for _ in range(5)], 16)
    with shop.database.read() as session:
        assert jobs.counts(session)[JobState.QUEUED] == 80


def test_writers_of_several_processes_queue_up_too(shop: Shop, database_url: str):
    def write(_number: int) -> None:
        with closing(Database(database_url)) as other:  # of its own, as another process would have
            for _ in range(5):
                Shop(other, shop.spec).queued()

    assert at_once(write, 6) == [None] * 6
    with shop.database.read() as session:
        assert jobs.counts(session)[JobState.QUEUED] == 30


def test_a_transaction_that_reads_first_can_still_write_when_another_came_between(shop: Shop, database_url: str):
    with closing(Database(database_url)) as other, ThreadPoolExecutor(1) as pool:
        with shop.database.begin() as session:
            assert job_list.page(session) == []
            between = pool.submit(Shop(other, shop.spec).queued)
            wait([between], timeout=0.3)  # SQLite lets it in afterwards, PostgreSQL at once
            jobs.submit(session, shop.spec, now=T0, retries=0)
        assert between.result(10)
    assert len(shop.rows("jobs")["jobs"]) == 2


def test_sqlite_is_set_up_for_concurrent_processes(sqlite_url: str):
    with closing(Database(sqlite_url)) as database, database.read() as session:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        assert [session.scalar(text(f"PRAGMA {name}")) for name in pragmas] == ["wal", 2, 1, 30000]


def test_a_new_sqlite_file_may_be_opened_while_another_connection_writes_to_it(tmp_path: Path):
    path = tmp_path / "new.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (n int)")
    other.execute("BEGIN IMMEDIATE")
    with closing(other), closing(Database(f"sqlite:///{path}")) as database, ThreadPoolExecutor(1) as pool:
        opened = pool.submit(lambda: database.engine.connect().close())
        assert not wait([opened], timeout=0.3).done, "it must wait"
        other.execute("ROLLBACK")
        opened.result(timeout=30)


def test_an_attempt_without_its_job_is_refused(database: Database):
    with pytest.raises(IntegrityError), database.begin() as session:
        add(session, AttemptRow, [transitions.attempt_row(Lease("job_0", 1, 1, "w"), host="h", device=None, now=T0)])


def test_an_address_of_other_tools_is_understood(postgres_url: str):
    plain = postgres_url.replace("postgresql+psycopg:", "postgresql:")
    with closing(Database(plain)) as database, database.read() as session:
        assert job_list.page(session) == []


def test_a_server_made_in_the_c_locale_answers_in_text(postgres: Postgres, spec: JobSpec):
    postgres.execute("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII'")
    with closing(Database(postgres.url("ascii"))) as database:
        migrate.upgrade(database)
        with database.begin() as session:
            job_id = jobs.submit(session, spec, now=T0, retries=0).job_id
            assert jobs.get(session, job_id).name == spec.name
    postgres.drop("ascii")


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    with running(Postgres()) as server:
        yield server


def test_a_database_that_is_restarted_is_unavailable_and_then_there_again(own_postgres: Postgres):
    with closing(Database(own_postgres.url())) as database:
        with database.begin() as session:
            session.execute(text("CREATE TABLE t (n int)"))
        own_postgres.kill()
        for transaction in (database.begin, database.read):
            with pytest.raises(DatabaseUnavailable) as caught, transaction() as session:
                database_now(session)
            assert caught.value.retryable
        own_postgres.start()
        with database.begin() as session:
            session.execute(text("INSERT INTO t VALUES (1)"))


def test_a_connection_that_was_terminated_is_replaced_before_anyone_notices(postgres_shop: Shop, postgres: Postgres):
    postgres_shop.queued()
    postgres.clear(str(postgres_shop.database.url.database), [])
    postgres_shop.queued()


def test_a_connection_that_breaks_in_the_middle_leaves_nothing(postgres_shop: Shop, postgres: Postgres):
    before = postgres_shop.rows()

    def submit() -> None:
        with postgres_shop.database.begin() as session:
            jobs.submit(session, postgres_shop.spec, now=T0, retries=0)
            postgres.clear(str(postgres_shop.database.url.database), [])
            database_now(session)

    with pytest.raises(DatabaseUnavailable):
        submit()
    assert postgres_shop.rows() == before


def test_a_process_that_stands_in_the_middle_of_a_transaction_does_not_keep_its_job(postgres_shop: Shop):
    lease = postgres_shop.running()
    limit = {"options": "-c idle_in_transaction_session_timeout=100"}
    url = postgres_shop.database.url.update_query_dict(limit).render_as_string()

    def reap() -> list[queue.ReapedJob]:
        with postgres_shop.database.begin() as session:
            return queue.reap(session, now=T0 + 31)

    def stand_still() -> None:
        with closing(Database(url)) as database, database.begin() as session:
            assert jobs.renew(session, lease, now=T0 + 20, lease_s=30) is not None
            deadline = time.monotonic() + 30
            while not reap():
                assert time.monotonic() < deadline
            database_now(session)

    with pytest.raises(DatabaseUnavailable):
        stand_still()
    assert postgres_shop.job(lease.job_id).state is JobState.QUEUED


def test_postgresql_lets_no_one_wait_for_ever(postgres_shop: Shop):
    with postgres_shop.database.read() as session:
        assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "10s"
        assert session.scalar(text("SHOW lock_timeout")) == "30s"


def test_a_folder_that_is_not_there_is_an_unavailable_database_until_it_is_migrated(tmp_path: Path):
    with closing(Database(f"sqlite:///{tmp_path / 'new' / 'retort.db'}")) as database:
        with pytest.raises(DatabaseUnavailable), database.read() as session:
            database_now(session)
        migrate.upgrade(database)
        with database.read() as session:
            assert job_list.page(session) == []
