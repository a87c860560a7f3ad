"""Retention takes what its policy says, state by state, and gives the room back."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from results import RESULT
from retort.constants import MAP
from retort.db import Database, artifacts, events, jobs, metrics, migrate, retention, transitions, upkeep
from retort.db.artifacts import NewArtifact
from retort.db.retention import RetentionPolicy
from retort.protocol.events import MetricEvent, RunFailure
from retort.settings import Settings
from retort.storage import Store
from support.db_harness import LEASE_S, T0, Shop

FOREVER = RetentionPolicy(
    jobs_s={}, events_s=None, metrics_s=None, keys_s=None, checkpoints_s=None, trash_s=1e9
)  # fmt: skip
FAILURE = RunFailure(code="diverged", message="x", hint=None, retryable=False)
POINT = MetricEvent(n=1, at=0, role="student", step=1, values={MAP: 0.5})


def ended(shop: Shop, *, succeeded: bool, checkpoints: dict[int, float] | None = None) -> str:
    lease = shop.running()
    with shop.database.begin() as session:
        events.record(session, lease, [POINT], now=T0, lease_s=LEASE_S, journal_offset=1)
        for epoch, score in (checkpoints or {}).items():
            name, sha = f"checkpoints/student-epoch-{epoch:04d}.pt", f"{epoch:064x}"
            about: dict[str, Any] = {"epoch": epoch, "metrics": {MAP: score}}
            made = NewArtifact(name, "student", sha, 1, "a/b", f"sha256/{sha[:2]}/{sha}", about)
            artifacts.record(session, lease, made, now=T0)
        if succeeded:
            transitions.succeed(session, lease, now=T0, result=RESULT)
        else:
            transitions.fail(session, lease, now=T0, failure=FAILURE, exit_code=1)
    return lease.job_id


def test_jobs_go_to_the_trash_by_the_state_in_which_they_ended(shop: Shop):
    good, bad, waiting = ended(shop, succeeded=True), ended(shop, succeeded=False), shop.queued()
    policy = replace(FOREVER, jobs_s={"failed": 10.0})
    with shop.database.begin() as session:
        assert retention.trash_old_jobs(session, policy, now=T0 + 9) == 0
        assert retention.trash_old_jobs(session, policy, now=T0 + 11) == 1
    assert shop.job(bad).deleted_at == T0 + 11
    assert (shop.job(good).deleted_at, shop.job(waiting).deleted_at) == (None, None)


def test_events_and_curves_of_ended_jobs_go_and_those_of_pinned_and_waiting_ones_stay(shop: Shop):
    old, pinned, waiting = ended(shop, succeeded=True), ended(shop, succeeded=True), shop.queued()
    with shop.database.begin() as session:
        jobs.change(session, pinned, jobs.JobChange(keep=True))
        assert retention.drop_events(session, before=T0 + 1) == 1
        assert retention.drop_metrics(session, before=T0 + 1) == 1
        assert retention.drop_events(session, before=T0 + 1) == 0
    assert (shop.events(old), len(shop.events(pinned)) > 0, len(shop.events(waiting))) == ([], True, 1)
    with shop.database.read() as session:
        assert metrics.series(session, old) == []
        assert len(metrics.series(session, pinned)) == 1
        assert len(jobs.transitions_of_job(session, old)) > 1


def test_of_checkpoints_the_best_and_the_last_stay(shop: Shop):
    job_id = ended(shop, succeeded=True, checkpoints={1: 0.1, 2: 0.9, 3: 0.3, 4: 0.5})
    failed = ended(shop, succeeded=False, checkpoints={1: 0.1, 2: 0.2, 3: 0.1})
    with shop.database.begin() as session:
        assert retention.drop_checkpoints(session, before=T0 + 1, now=T0 + 1) == 2
        kept = [row.metadata_["epoch"] for row in artifacts.of_job(session, job_id)]
        assert (kept, len(artifacts.of_job(session, failed))) == ([2, 4], 3)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("60", dict.fromkeys(("succeeded", "failed", "cancelled", "expired"), 60.0)),
        ("failed=60, cancelled=5", {"failed": 60.0, "cancelled": 5.0}),
        ("", {}),
    ],
)
def test_how_long_jobs_are_kept_is_one_number_or_one_for_a_state(
    written: str, read: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETORT_KEEP_JOBS_S", written)
    monkeypatch.setenv("RETORT_KEEP_EVENTS_S", "")
    settings = Settings()
    assert (settings.keep_jobs_s, settings.keep_events_s) == (read, None)


@pytest.mark.parametrize("written", ["running=5", "5,failed=6", "failed=-1", "soon"])
def test_a_time_that_cannot_be_read_is_refused(written: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETORT_KEEP_JOBS_S", written)
    with pytest.raises(ValueError, match="keep_jobs_s"):
        Settings()


def test_the_embedded_broker_keeps_no_message_that_has_been_read(tmp_path: Path):
    url = f"sqla+sqlite:///{tmp_path / 'broker.db'}"
    queue = Queue("retort", Exchange("retort"), routing_key="retort")
    with Connection(url) as connection, connection.SimpleQueue(queue) as line:
        for number in range(20):
            line.put({"number": number, "padding": "x" * 1000})
        for _ in range(15):
            line.get(timeout=5).ack()
    assert upkeep.tidy_broker(url) == 15
    with closing(sqlite3.connect(tmp_path / "broker.db")) as connection:
        assert connection.execute("SELECT count(*) FROM kombu_message").fetchone() == (5,)
    assert upkeep.tidy_broker(url) == 0
    assert upkeep.tidy_broker(f"sqla+sqlite:///{tmp_path / 'none.db'}") == 0
    assert upkeep.tidy_broker("redis://127.0.0.1:1/0") == 0


def test_a_new_database_shrinks_with_what_it_holds(tmp_path: Path):
    with closing(Database(f"sqlite:///{tmp_path / 'retort.db'}")) as database:
        migrate.upgrade(database)
        small = upkeep.size_bytes(database)
        with closing(sqlite3.connect(tmp_path / "retort.db")) as other:
            other.execute("CREATE TABLE heap (x)")
            other.executemany("INSERT INTO heap VALUES (?)", [("x" * 1000,)] * 5000)
            other.commit()
            other.execute("DROP TABLE heap")
            other.commit()
        large = upkeep.size_bytes(database)
        assert upkeep.shrink(database) > 4_000_000
        assert upkeep.size_bytes(database) <= small + 100_000 < large


def test_files_that_others_hold_are_left_to_a_later_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upkeep, "_WAIT_S", 0.05)
    url, path = f"sqla+sqlite:///{tmp_path / 'broker.db'}", tmp_path / "broker.db"
    with Connection(url) as connection, connection.SimpleQueue("retort") as line:
        line.put({})
        line.get(timeout=5).ack()
    with closing(sqlite3.connect(path, isolation_level=None)) as other, closing(Database(f"sqlite:///{path}")) as same:
        other.execute("BEGIN EXCLUSIVE")
        assert upkeep.tidy_broker(url) == 0
        assert upkeep.shrink(same) == 0
        other.execute("COMMIT")
        assert upkeep.tidy_broker(url) == 1


def test_leftovers_of_broken_uploads_go_and_no_whole_file(tmp_path: Path):
    store = Store((tmp_path / "store").as_uri())
    (tmp_path / "file").write_bytes(b"x")
    key = store.put(tmp_path / "file").key
    leftover = tmp_path / "store" / f"{key}#1"
    leftover.write_bytes(b"half")
    os.utime(leftover, (1, 1))
    assert store.delete_parts(before=100.0) == 1
    assert store.size(key) == 1
