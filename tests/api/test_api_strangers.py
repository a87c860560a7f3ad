"""Another project's key finds nothing: in lists, by id, through webhooks, links, predictions or estimates."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from results import trained_for
from retort.access import ClientRole
from retort.db import Database, Lease
from support.api_harness import SPEC, Worker
from support.identity import add_key

HOOK = {"url": "https://93.184.215.14/hook", "events": ["job.failed"]}


@pytest.fixture
def stranger(database: Database) -> dict[str, str]:
    return add_key(database, "stranger", ClientRole.SUBMITTER, project="elsewhere", owner="eve")


def test_a_strangers_job_is_in_no_list_and_no_action_reaches_it(
    client: TestClient, job_id: str, stranger: dict[str, str]
):
    assert client.get("/v1/jobs", params={"q": "first"}, headers=stranger).json()["data"] == []
    for wanted in ({"ids": [job_id]}, {"filter": {"name": "first"}}):
        answer = client.post("/v1/bulk", json={"action": "cancel", **wanted}, headers=stranger).json()
        assert [one["code"] for one in answer["data"]] == ["job_not_found"] * ("ids" in wanted)
    unknown = "job_" + "0" * 32
    for known in (job_id, unknown):
        answers = [
            client.get(f"/v1/jobs/{known}", params={"wait": 1}, headers=stranger),
            client.patch(f"/v1/jobs/{known}", json={"labels": {"a": "b"}}, headers=stranger),
            client.post(f"/v1/jobs/{known}/predict", content=b"x", headers={**stranger, "Content-Type": "image/png"}),
        ]
        assert [(one.status_code, one.json()["code"]) for one in answers] == [(404, "job_not_found")] * 3
    assert client.get(f"/v1/jobs/{job_id}").json()["labels"] == {}


def test_a_strangers_file_has_no_download_address(
    client: TestClient, worker: Worker, lease: Lease, stranger: dict[str, str]
):
    worker.publish(lease, "student.pt", b"weights")
    (artifact,) = client.get(f"/v1/jobs/{lease.job_id}/artifacts").json()["data"]
    refused = client.post(f"/v1/artifacts/{artifact['id']}/download-url", json={}, headers=stranger)
    assert (refused.status_code, refused.json()["code"]) == (404, "artifact_not_found")


def test_a_strangers_webhook_is_not_there(client: TestClient, stranger: dict[str, str]):
    home = f"/v1/webhooks/{client.post('/v1/webhooks', json=HOOK).json()['id']}"
    assert client.get("/v1/webhooks", headers=stranger).json()["data"] == []
    asked: list[tuple[str, str, Any]] = [
        ("GET", "", None), ("PATCH", "", {"enabled": False}), ("DELETE", "", None), ("POST", "/rotate", None),
        ("POST", "/test", None), ("GET", "/deliveries", None),
    ]  # fmt: skip
    for method, path, body in asked:
        refused = client.request(method, home + path, json=body, headers=stranger)
        assert (refused.status_code, refused.json()["code"]) == (404, "webhook_not_found"), (method, path)
    assert client.get(home).json()["enabled"]


def test_a_strangers_jobs_are_in_no_estimate(client: TestClient, worker: Worker, stranger: dict[str, str]):
    spec = {**SPEC, "data": {"dataset": "coco128"}}
    job_id = client.post("/v1/jobs", json=spec).json()["id"]
    worker.succeed(worker.claim(job_id), trained_for(100))
    assert client.post("/v1/validate", json=spec).json()["estimate"]["time"] != []
    assert client.post("/v1/validate", json=spec, headers=stranger).json()["estimate"]["time"] == []
