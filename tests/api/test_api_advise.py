"""Asking for advice: a job like any other, of another task."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.spec.result import parse_result
from stored_results import advice, candidate
from support.api_harness import SPEC, Worker

REQUEST: dict[str, Any] = {"data": {"path": "/data/digits"}, "candidates": ["yolo11s.pt", "yolo11m.pt"]}


def test_a_request_for_advice_is_queued_as_a_job(client: TestClient):
    answer = client.post("/v1/advise", json=REQUEST)

    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["name"]) == ("queued", "advice")
    assert (job["spec"]["task"], job["spec"]["student"]["model"]) == ("advise", "yolov8n")
    shown = client.get(f"/v1/jobs/{job['id']}").json()
    assert shown["queue"]["reason"] == "no_worker"
    assert {**shown, "queue": None} == job


def test_the_same_key_and_request_answer_with_the_same_job(client: TestClient):
    key = {"Idempotency-Key": "a-1"}
    first = client.post("/v1/advise", json=REQUEST, headers=key).json()

    again = client.post("/v1/advise", json={**REQUEST, "imgsz": 640}, headers=key)
    other = client.post("/v1/advise", json={**REQUEST, "imgsz": 320}, headers=key)

    assert (again.status_code, again.json()["id"]) == (202, first["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_the_advice_is_the_jobs_result(client: TestClient, worker: Worker):
    job_id = client.post("/v1/advise", json=REQUEST).json()["id"]
    told = advice(candidate())

    worker.succeed(worker.claim(job_id), parse_result(told))

    assert client.get(f"/v1/jobs/{job_id}").json()["result"] == told


def test_the_address_of_jobs_takes_the_same_document_by_its_task(client: TestClient):
    answer = client.post("/v1/jobs", json={"task": "advise", **REQUEST})

    assert (answer.status_code, answer.json()["spec"]["task"]) == (202, "advise")


def test_advice_is_cancelled_retried_and_cloned_like_any_job(client: TestClient):
    home = f"/v1/jobs/{client.post('/v1/advise', json=REQUEST).json()['id']}"

    assert client.post(f"{home}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{home}/retry").json()["spec"]["task"] == "advise"
    assert client.post(f"{home}/clone", json={"imgsz": 320}).json()["spec"]["imgsz"] == 320


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (SPEC, "candidates"),
        ({**SPEC, "task": "distill"}, "task"),
        ({**REQUEST, "candidates": []}, "candidates"),
        ({**REQUEST, "candidates": ["model:x@sha256:" + "0" * 64]}, "candidates.0"),
        ({**REQUEST, "data": {"path": "relative/../../../../../nowhere\x00"}}, "data.path"),
        ([], "$"),
    ],
    ids=["job", "task", "none", "unregistered", "path", "list"],
)
def test_what_is_no_request_for_advice_is_refused_with_its_place(small_client: TestClient, document: Any, path: str):
    refused = small_client.post("/v1/advise", json=document)

    assert (refused.status_code, refused.json()["code"]) == (422, "bad_spec")
    assert path in {mistake["path"] for mistake in refused.json()["errors"]}


def test_the_schema_of_a_request_is_served(small_client: TestClient):
    assert "candidates" in small_client.get("/v1/schema", params={"task": "advise"}).json()["properties"]
    assert "teacher" in small_client.get("/v1/schema").json()["properties"]
    assert small_client.get("/v1/schema", params={"task": "other"}).status_code == 422
