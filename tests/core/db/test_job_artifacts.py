"""Files are published under the lease, once per name, and announced."""

from __future__ import annotations

from dataclasses import replace

import pytest
from results import RESULT
from retort.db import artifacts, transitions
from retort.db.artifacts import NewArtifact
from retort.protocol.events import RunFailure
from support.db_harness import T0, Shop

FILE = NewArtifact("student.pt", "student", "a" * 64, 10, "application/x", "sha256/aa/" + "a" * 64, {"epoch": 3})


def test_publishing_writes_a_row_and_an_event(shop: Shop):
    lease = shop.running()
    with shop.database.begin() as session:
        artifact_id = artifacts.record(session, lease, FILE, now=T0 + 1)
    with shop.database.read() as session:
        (row,) = artifacts.of_job(session, lease.job_id)
        assert artifacts.get(session, artifact_id) is row is artifacts.named(session, lease.job_id, "student.pt")
    assert (row.sha256, row.size_bytes, row.key, row.metadata_) == ("a" * 64, 10, FILE.key, {"epoch": 3})
    assert (row.attempt, row.created_at, row.role, row.media_type) == (1, T0 + 1, "student", "application/x")
    announced = shop.events(lease.job_id)[-1]
    assert (announced["type"], announced["seq"]) == ("artifact", 3)
    assert announced["data"] == {
        "id": artifact_id, "name": "student.pt", "role": "student", "size_bytes": 10, "sha256": "a" * 64,
        "media_type": "application/x",
    }  # fmt: skip


def test_publishing_the_same_bytes_again_changes_nothing(shop: Shop, retryable: RunFailure):
    lease = shop.running()
    with shop.database.begin() as session:
        first = artifacts.record(session, lease, FILE, now=T0)
        transitions.fail(session, lease, now=T0, failure=retryable, exit_code=1)
    lease = shop.claimed(lease.job_id, now=T0 + 100)
    before = shop.rows()
    with shop.database.begin() as session:
        assert artifacts.record(session, lease, FILE, now=T0 + 9) == first
    assert shop.rows() == before


def test_a_later_attempts_file_of_the_same_name_replaces_the_earlier_one(shop: Shop, retryable: RunFailure):
    lease = shop.running()
    with shop.database.begin() as session:
        first = artifacts.record(session, lease, FILE, now=T0)
        transitions.fail(session, lease, now=T0, failure=retryable, exit_code=1)
    lease = shop.claimed(lease.job_id, now=T0 + 100)
    other = replace(FILE, sha256="b" * 64, key="sha256/bb/" + "b" * 64, size_bytes=11)
    with shop.database.begin() as session:
        assert artifacts.record(session, lease, other, now=T0 + 9) == first
    with shop.database.read() as session:
        (row,) = artifacts.of_job(session, lease.job_id)
    assert (row.sha256, row.size_bytes, row.attempt, row.created_at) == ("b" * 64, 11, 2, T0 + 9)
    assert [row["type"] for row in shop.events(lease.job_id)].count("artifact") == 2


def test_two_jobs_publish_files_of_the_same_name_and_content_apart(shop: Shop):
    ids = []
    for lease in (shop.running(), shop.running()):
        with shop.database.begin() as session:
            ids.append(artifacts.record(session, lease, FILE, now=T0))
    assert len(set(ids)) == 2


def test_files_are_published_while_the_job_is_being_cancelled(shop: Shop):
    lease = shop.cancelling()
    with shop.database.begin() as session:
        assert artifacts.record(session, lease, FILE, now=T0) is not None


def test_publishing_and_success_are_one_transaction(shop: Shop):
    lease = shop.running()
    before = shop.rows()
    with shop.doomed() as session:
        artifacts.record(session, lease, FILE, now=T0)
        transitions.succeed(session, lease, now=T0, result=RESULT)
    assert shop.rows() == before


def test_a_file_that_is_not_there_is_said_to_be_missing(shop: Shop):
    lease = shop.running()
    with shop.database.read() as session:
        with pytest.raises(artifacts.ArtifactNotFound):
            artifacts.get(session, "art_0")
        with pytest.raises(artifacts.ArtifactNotFound, match=r"no artifact named 'x\.pt'"):
            artifacts.named(session, lease.job_id, "x.pt")
