"""Stopping, pausing, retrying, cloning: what clients wish of jobs, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from results import RESULT
from retort.constants import MAP, Role
from retort.db import Database, Lease, artifacts
from retort.db.session import database_now
from retort.protocol.events import MetricEvent, RunFailure
from support.api_harness import SPEC, Worker

FAILURE = RunFailure(code="diverged", message="nan")


def ask(client: TestClient, job_id: str, what: str, **more: Any) -> tuple[int, str]:
    answer = client.post(f"/v1/jobs/{job_id}/{what}", **more)
    return answer.status_code, answer.json().get("state") or answer.json()["code"]


def test_a_queued_job_is_paused_and_resumed_at_once(client: TestClient, job_id: str) -> None:
    assert [ask(client, job_id, "pause") for _ in range(2)] == [(200, "paused")] * 2
    assert client.get(f"/v1/jobs/{job_id}").headers["Retry-After"] == "30"
    assert [ask(client, job_id, "resume") for _ in range(2)] == [(200, "queued")] * 2


def test_a_running_job_is_asked_to_pause_and_may_be_resumed_before_it_has(client: TestClient, lease: Lease) -> None:
    assert [ask(client, lease.job_id, "pause") for _ in range(2)] == [(202, "pausing")] * 2
    assert ask(client, lease.job_id, "resume") == (200, "running")


def test_a_job_is_stopped_once_it_has_something_to_keep(client: TestClient, worker: Worker, lease: Lease) -> None:
    refused = client.post(f"/v1/jobs/{lease.job_id}/stop")
    assert (refused.status_code, refused.json()["code"]) == (409, "wrong_state")
    assert "first epoch" in refused.json()["hint"]

    worker.record(lease, MetricEvent(n=1, at=1.0, role=Role.STUDENT, step=1, values={MAP: 0.5}))
    assert [ask(client, lease.job_id, "stop") for _ in range(2)] == [(202, "running")] * 2
    assert client.get(f"/v1/jobs/{lease.job_id}").json()["finish_early"] is True


@pytest.mark.parametrize("what", ["pause", "resume", "stop"])
def test_a_job_that_has_ended_is_past_wishing(client: TestClient, worker: Worker, lease: Lease, what: str) -> None:
    worker.succeed(lease, RESULT)
    assert ask(client, lease.job_id, what) == (409, "job_already_finished")


@pytest.mark.parametrize("what", ["pause", "resume", "stop"])
def test_a_job_that_is_being_cancelled_is_in_the_wrong_state(client: TestClient, lease: Lease, what: str) -> None:
    client.post(f"/v1/jobs/{lease.job_id}/cancel")
    assert ask(client, lease.job_id, what) == (409, "wrong_state")


def test_a_retry_is_a_new_job_that_goes_on_where_the_old_one_ended(
    client: TestClient, database: Database, worker: Worker, lease: Lease
) -> None:
    saved = {"job_id": lease.job_id, "attempt": 1, "stage": "distill", "epoch": 7, "files": []}
    with database.begin() as session:
        artifacts.record_recovery(session, lease, saved, now=database_now(session))
    worker.fail(lease, FAILURE)

    answer = client.post(f"/v1/jobs/{lease.job_id}/retry", headers={"Idempotency-Key": "again"})
    replay = client.post(f"/v1/jobs/{lease.job_id}/retry", headers={"Idempotency-Key": "again"})

    child = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, child["links"]["self"])
    assert (child["state"], child["parent_id"], child["attempt"]) == ("queued", lease.job_id, 0)
    assert child["saved"] == {"attempt": 1, "stage": "distill", "epoch": 7}
    assert (replay.json()["id"], replay.headers["Idempotency-Replayed"]) == (child["id"], "true")
    old = client.get(f"/v1/jobs/{lease.job_id}").json()
    assert (old["state"], child["spec_digest"]) == ("failed", old["spec_digest"])


def test_what_goes_on_or_has_succeeded_cannot_be_retried(client: TestClient, worker: Worker, lease: Lease) -> None:
    assert ask(client, lease.job_id, "retry") == (409, "wrong_state")
    worker.succeed(lease, RESULT)
    refused = client.post(f"/v1/jobs/{lease.job_id}/retry")
    assert refused.status_code == 409
    assert "clone" in refused.json()["hint"]


def test_a_clone_begins_anew_with_the_same_or_a_changed_spec(client: TestClient, job_id: str) -> None:
    old = client.get(f"/v1/jobs/{job_id}").json()

    same = client.post(f"/v1/jobs/{job_id}/clone").json()
    changed = client.post(f"/v1/jobs/{job_id}/clone", json={"name": "second", "training": {"epochs": 7}}).json()

    assert (same["parent_id"], same["spec"], same["saved"]) == (job_id, old["spec"], None)
    assert changed["name"] == "second"
    assert changed["spec"]["training"] == {**old["spec"]["training"], "epochs": 7}


@pytest.mark.parametrize(
    ("patch", "path"),
    [({"training": {"epohs": 7}}, "training.epohs"), ({"data": {"path": None}}, "data.path"), ([1], "$")],
)
def test_a_clone_with_a_mistake_is_told_where_it_is(client: TestClient, job_id: str, patch: Any, path: str) -> None:
    refused = client.post(f"/v1/jobs/{job_id}/clone", json=patch)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_spec")
    assert [mistake["path"] for mistake in refused.json()["errors"]] == [path]


def test_a_key_stands_for_one_request_about_one_job(client: TestClient, job_id: str) -> None:
    key = {"Idempotency-Key": "k"}
    assert client.post(f"/v1/jobs/{job_id}/clone", headers=key).status_code == 202
    changed = client.post(f"/v1/jobs/{job_id}/clone", headers=key, json={"name": "other"})
    assert (changed.status_code, changed.json()["code"]) == (422, "idempotency_key_reused")


def test_owner_and_priority_are_given_when_submitting_and_the_priority_may_change(client: TestClient) -> None:
    plain = client.post("/v1/jobs", json=SPEC).json()
    given = client.post("/v1/jobs?owner=vision-team&priority=5", json=SPEC).json()

    assert (plain["owner"], plain["priority"]) == ("default", 0)
    assert (given["owner"], given["priority"]) == ("vision-team", 5)
    before = client.get(f"/v1/jobs/{plain['id']}").headers["ETag"]
    raised = client.patch(f"/v1/jobs/{plain['id']}", json={"priority": 9.0})
    assert (raised.status_code, raised.json()["priority"]) == (200, 9)
    assert raised.headers["ETag"] != before
    assert client.post(f"/v1/jobs/{given['id']}/clone").json()["owner"] == "vision-team"


@pytest.mark.parametrize("query", ["owner=", "owner=a%20b", "priority=101", "priority=high"])
def test_an_owner_or_a_priority_that_cannot_be_is_refused(small_client: TestClient, query: str) -> None:
    refused = small_client.post(f"/v1/jobs?{query}", json=SPEC)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")


@pytest.mark.parametrize("change", [{}, {"priority": "9"}, {"priority": 1e9}, {"spec": {}, "priority": 1}])
def test_nothing_else_about_a_job_can_be_changed(client: TestClient, job_id: str, change: Any) -> None:
    refused = client.patch(f"/v1/jobs/{job_id}", json=change)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")


def test_attempts_are_a_resource_of_their_own(client: TestClient, worker: Worker, lease: Lease) -> None:
    worker.fail(lease, FAILURE)
    (attempt,) = client.get(f"/v1/jobs/{lease.job_id}/attempts").json()["data"]
    assert (attempt["number"], attempt["state"], attempt["worker"]) == (1, "failed", "w1")
    assert attempt["failure"]["code"] == "diverged"
