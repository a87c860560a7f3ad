"""What a project may have: refused with which, how much and when, and honoured by claims without starving others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from retort.db import Database, Lease, datasets, jobs, queue, quotas, transitions, uploads, usage
from retort.db.datasets import DatasetFile
from retort.db.idempotency import IdempotencyKey
from retort.db.quotas import Limits, QuotaExceeded
from retort.db.session import database_now
from retort.db.uploads import NewPart, NewUpload
from retort.spec import parse_spec
from sqlalchemy import update

SPEC = parse_spec({"name": "x", "data": {"path": "/data"}, "teacher": {"weights": "yolo11s.pt"}})


@pytest.fixture
def limited(database: Database) -> Iterator[Database]:
    """The same database, under the limits of settings."""
    url = database.url.render_as_string(hide_password=False)
    with closing(Database(url, limits=Limits(queued_jobs=2))) as found:
        yield found


def submit(database: Database, project: str = "default", **about: Any) -> str:
    with database.begin() as session:
        return jobs.submit(session, SPEC, retries=1, now=database_now(session), project=project, **about).job_id


def claim(database: Database, number: int = 1, device: str = "cuda:0") -> list[Lease]:
    with database.begin() as session:
        now = database_now(session)
        found = [one.job_id for one in queue.claimable(session, now=now, number=number)]
        claims = queue.claim_all(session, dict.fromkeys(found, device), worker="w", host="h", now=now, lease_s=60)
        return [one.lease for one in claims]


def allow(database: Database, project: str, **limits: Any) -> None:
    with database.begin() as session:
        quotas.put(session, project, Limits(**limits))


def project_of(database: Database, lease: Lease) -> str:
    with database.read() as session:
        return jobs.get(session, lease.job_id).project


def test_queued_jobs_are_refused_beyond_the_quota_until_one_is_taken(limited: Database) -> None:
    submit(limited)
    submit(limited)
    with pytest.raises(QuotaExceeded, match="queued jobs: 2 of 2") as refused:
        submit(limited)

    assert "frees when a worker takes a job" in str(refused.value.hint)
    assert int(refused.value.headers["Retry-After"]) > 0
    submit(limited, "other")
    claim(limited)
    submit(limited)


def test_a_project_may_be_given_more_or_less_than_the_settings_say(limited: Database) -> None:
    allow(limited, "big", queued_jobs=3)
    allow(limited, "none", queued_jobs=0)
    for _ in range(3):
        submit(limited, "big")
    with pytest.raises(QuotaExceeded):
        submit(limited, "big")
    with pytest.raises(QuotaExceeded):
        submit(limited, "none")


def test_a_replay_is_answered_and_a_refused_key_may_come_again(limited: Database) -> None:
    first = submit(limited, key=IdempotencyKey("a", "default", "0" * 64, 60.0))
    submit(limited)
    again = IdempotencyKey("b", "default", "1" * 64, 60.0)
    with pytest.raises(QuotaExceeded):
        submit(limited, key=again)

    assert submit(limited, key=IdempotencyKey("a", "default", "0" * 64, 60.0)) == first
    claim(limited)
    assert submit(limited, key=again) != first


def test_running_jobs_beyond_the_quota_wait_and_hold_nobody_up(database: Database) -> None:
    allow(database, "busy", running_jobs=1)
    for _ in range(3):
        submit(database, "busy", owner="ann", priority=50)
    submit(database, "calm", owner="ann")
    submit(database, "calm", owner="ben")

    begun = claim(database, number=5) + claim(database, number=5)
    assert [project_of(database, lease) for lease in begun] == ["busy", "calm", "calm"]
    assert claim(database, number=5) == []
    with database.begin() as session:
        failure = {"code": "x", "message": "x", "hint": None, "retryable": False}
        from retort.protocol.events import RunFailure

        transitions.fail(session, begun[0], now=database_now(session), failure=RunFailure(**failure), exit_code=1)
    assert [project_of(database, lease) for lease in claim(database, number=5)] == ["busy"]


def test_two_workers_that_look_at_the_same_time_take_no_more_than_the_quota(database: Database) -> None:
    allow(database, "busy", running_jobs=1)
    found = [submit(database, "busy") for _ in range(2)]
    with database.begin() as session:
        about: dict[str, Any] = {"worker": "w", "host": "h", "now": database_now(session), "lease_s": 60}
        claims = queue.claim_all(session, dict.fromkeys(found, "cuda:0"), **about)
    assert len(claims) == 1


def test_gpu_hours_of_the_month_are_counted_from_its_beginning_and_told(database: Database) -> None:
    allow(database, "busy", gpu_hours=2)
    submit(database, "busy")
    (lease,) = claim(database)
    from retort.db.models import AttemptRow

    with database.begin() as session:
        now = database_now(session)
        session.execute(update(AttemptRow).values(started_at=now - 3 * 3600))
        begun, ends = quotas.month_of(now)
        expected = min(3.0, (now - begun) / 3600)
        assert quotas.gpu_hours(session, "busy", now=now) == pytest.approx(expected, abs=0.01)
        assert quotas.gpu_hours(session, "other", now=now) == 0
        later = ends + 3600  # an hour into the next month
        assert quotas.gpu_hours(session, "busy", now=later) == pytest.approx(1.0, abs=0.01)
        with pytest.raises(QuotaExceeded, match=r"GPU hours of this month: \d+\.\d of 2") as refused:
            quotas.Room(session, now=later + 3 * 3600).take("busy")
        assert "UTC, with the month" in str(refused.value.hint)
    assert lease.attempt == 1


def test_months_begin_and_end_where_the_calendar_says() -> None:
    assert quotas.month_of(1_798_761_599.0) == (1_796_083_200.0, 1_798_761_600.0)  # December 2026


def test_stored_bytes_are_counted_and_bounded(database: Database) -> None:
    from retort.db.models import ModelRow
    from retort.db.session import add

    with database.begin() as session:
        row = {
            "id": "mdl_1", "name": "m", "sha256": "0" * 64, "size_bytes": 1000, "key": "k", "role": None,
            "architecture": None, "classes": None, "imgsz": None, "metrics": None, "dataset_digest": None,
            "job_id": None, "created_at": 0.0, "project": "busy", "owner": "ann",
        }  # fmt: skip
        add(session, ModelRow, [row])
        quotas.put(session, "busy", Limits(stored_bytes=1500))
        quotas.check_bytes(session, "busy", more=500)
        with pytest.raises(QuotaExceeded, match="stored bytes: 1,501 of 1,500"):
            quotas.check_bytes(session, "busy", more=501)
        quotas.check_bytes(session, "other", more=10**12)


def test_bytes_of_uploads_and_datasets_count_once_and_those_that_are_announced_count_before_they_come(
    database: Database,
) -> None:
    with database.begin() as session:
        now = database_now(session)
        part = NewPart("a" * 64, 600, "sha256/aa/" + "a" * 64)
        new = NewUpload(project="busy", owner="ann", size_bytes=1000, num_parts=2)
        first = uploads.create(session, new, [part, NewPart("b" * 64, 400)], now=now)
        assert quotas.stored_bytes(session, "busy") == 1000, "one part is there, the other is awaited"
        again = NewUpload(project="busy", owner="ann", size_bytes=600, num_parts=1)
        uploads.create(session, again, [part], now=now)
        assert quotas.stored_bytes(session, "busy") == 1000, "what is there already is kept once"
        uploads.add_part(session, first.id, 2, NewPart("b" * 64, 400, "sha256/bb/" + "b" * 64), now=now)
        uploads.complete(session, first.id, "c" * 64, now=now)
        session.refresh(first)
        datasets.create(session, project="busy", owner="ann", name="d", upload=first, now=now)
        claimed = datasets.claim(session, worker="w", now=now, lease_s=60)
        assert claimed is not None
        kept = [DatasetFile(f"sha256/{digit * 2}/{digit * 64}", digit * 64, 50) for digit in "de"]
        assert datasets.finish(session, claimed, {}, kept[0], kept[1:], now=now)
        assert quotas.stored_bytes(session, "busy") == 1100
        assert quotas.stored_bytes(session, "other") == 0
        shown = {one.kind: (one.number, one.size_bytes) for one in usage.stored(session)}
        assert shown == {"datasets": (1, 100), "uploads": (2, 1600)}
        assert usage.bytes_by_kind(session) == {"datasets": 100, "uploads": 1000, "saved": 0}


def test_uploads_at_a_time_and_their_announced_bytes_are_those_of_the_projects_own_quota(limited: Database) -> None:
    allow(limited, "busy", uploads=1, stored_bytes=1000)

    def begin(size_bytes: int) -> str:
        with limited.begin() as session:
            new = NewUpload(project="busy", owner="ann", size_bytes=size_bytes)
            return uploads.create(session, new, now=database_now(session)).id

    with pytest.raises(QuotaExceeded, match="stored bytes: 1,001 of 1,000"):
        begin(1001)
    first = begin(900)
    with pytest.raises(QuotaExceeded, match="open uploads: 1 of 1") as refused:
        begin(1)
    assert "deleted" in str(refused.value.hint)
    assert int(refused.value.headers["Retry-After"]) > 0
    with limited.begin() as session:
        uploads.remove(session, first, now=database_now(session))
    begin(901)
