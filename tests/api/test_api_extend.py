"""Adding epochs to a job over the API: what is taken, what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from results import result
from retort.access import ClientRole
from retort.db import Database, Lease, artifacts
from retort.db.session import database_now
from retort.protocol.workdir import ENDED
from support.api_harness import Worker
from support.identity import add_key


@pytest.fixture
def ended(database: Database, worker: Worker, lease: Lease) -> str:
    """A job that has succeeded, with its last state."""
    keep(database, lease)
    worker.succeed(lease, result(training={"epochs": 100, "planned_epochs": 100, "batch": 16}))
    return lease.job_id


def keep(database: Database, lease: Lease) -> None:
    state = {"path": "last/a.state", "key": "saved/a", "sha256": "0" * 64, "size_bytes": 10, "last": True}
    saved = {"job_id": lease.job_id, "attempt": 1, "stage": ENDED, "epoch": 100, "files": [state]}
    with database.begin() as session:
        assert artifacts.record_recovery(session, lease, saved, now=database_now(session))


def test_an_extension_is_a_new_job_that_says_what_it_goes_on_from(client: TestClient, ended: str) -> None:
    key = {"Idempotency-Key": "more"}
    body = {"epochs": 20, "name": "longer", "labels": {"run": "2"}, "priority": 2}
    answer = client.post(f"/v1/jobs/{ended}/extend", json=body, headers=key)
    replay = client.post(f"/v1/jobs/{ended}/extend", json=body, headers=key)
    other = client.post(f"/v1/jobs/{ended}/extend", json={**body, "epochs": 21}, headers=key)

    job = answer.json()
    old = client.get(f"/v1/jobs/{ended}").json()
    assert (answer.status_code, answer.headers["Location"]) == (202, job["links"]["self"])
    assert (job["name"], job["labels"], job["priority"], job["parent_id"]) == ("longer", {"run": "2"}, 2, ended)
    assert job["spec"]["training"]["epochs"] == old["spec"]["training"]["epochs"] + 20
    assert job["adjustments"]["extension"]["job"] == ended
    assert job["saved"] == old["saved"] == {"attempt": 1, "stage": "ended", "epoch": 100}
    assert (replay.json()["id"], replay.headers["Idempotency-Replayed"]) == (job["id"], "true")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    told = client.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert any("in one training" in (event["message"] or "") for event in told)


@pytest.mark.parametrize(
    "body",
    [{}, {"epochs": 0}, {"epochs": "5"}, {"epochs": 1.5}, {"epochs": 5, "training": {}}, {"epochs": 5, "name": "/"}],
)
def test_a_wish_that_cannot_be_is_refused(client: TestClient, ended: str, body: dict[str, Any]) -> None:
    refused = client.post(f"/v1/jobs/{ended}/extend", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")


def test_more_epochs_than_a_spec_may_have_are_refused_where_they_stand(client: TestClient, ended: str) -> None:
    refused = client.post(f"/v1/jobs/{ended}/extend", json={"epochs": 9_999})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_spec")
    assert [mistake["path"] for mistake in refused.json()["errors"]] == ["training.epochs"]


def test_a_job_that_runs_or_has_kept_nothing_cannot_be_extended(
    client: TestClient, worker: Worker, lease: Lease
) -> None:
    runs = client.post(f"/v1/jobs/{lease.job_id}/extend", json={"epochs": 5})
    worker.succeed(lease, result(training={"epochs": 100, "planned_epochs": 100, "batch": 16}))
    kept_nothing = client.post(f"/v1/jobs/{lease.job_id}/extend", json={"epochs": 5})
    assert (runs.status_code, runs.json()["code"]) == (409, "wrong_state")
    assert (kept_nothing.status_code, kept_nothing.json()["code"]) == (409, "cannot_extend")
    assert "clone" in kept_nothing.json()["hint"]


def test_a_stranger_and_a_reader_extend_nothing(client: TestClient, database: Database, ended: str) -> None:
    strange = add_key(database, "stranger", ClientRole.SUBMITTER, project="elsewhere", owner="eve")
    reading = add_key(database, "reader", ClientRole.READER)
    stranger = client.post(f"/v1/jobs/{ended}/extend", json={"epochs": 5}, headers=strange)
    reader = client.post(f"/v1/jobs/{ended}/extend", json={"epochs": 5}, headers=reading)
    assert (stranger.status_code, stranger.json()["code"]) == (404, "job_not_found")
    assert (reader.status_code, reader.json()["code"]) == (403, "forbidden")


def test_a_deleted_job_cannot_be_extended(client: TestClient, ended: str) -> None:
    assert client.delete(f"/v1/jobs/{ended}").status_code == 204
    assert client.post(f"/v1/jobs/{ended}/extend", json={"epochs": 5}).status_code == 409
