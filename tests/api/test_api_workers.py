"""The running workers, and for what a job waits, over REST."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.db import Database, Lease, workers
from retort.db.models import WorkerRow
from retort.db.session import database_now
from support.api_harness import SPEC


@pytest.fixture
def announced(database: Database) -> WorkerRow:
    with database.begin() as session:
        now = database_now(session)
        row = WorkerRow(name="a", host="box", slots=2, gpus=2, started_at=now, seen_at=now)
        workers.announce(session, row)
    return row


def waiting(client: TestClient, job_id: str) -> dict[str, Any]:
    answer = client.get(f"/v1/jobs/{job_id}/waiting")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_without_a_worker_a_queued_job_says_so(client: TestClient, job_id: str):
    found = waiting(client, job_id)

    assert (found["reason"], found["position"], found["num_workers"]) == ("no_worker", 1, 0)
    assert "no worker is running" in found["message"]
    assert client.get("/v1/workers").json() == {"data": []}


@pytest.mark.usefixtures("announced")
def test_a_job_in_the_queue_says_its_place_and_one_that_is_too_large_what_it_lacks(client: TestClient, job_id: str):
    large = client.post("/v1/jobs", json={**SPEC, "resources": {"gpus": 4}}).json()["id"]

    assert (waiting(client, job_id)["reason"], waiting(client, job_id)["position"]) == ("turn", 1)
    found = waiting(client, large)
    assert (found["reason"], found["position"], found["most_gpus"]) == ("too_many_gpus", 2, 2)
    assert "asks for 4 GPUs" in found["message"]
    [worker] = client.get("/v1/workers").json()["data"]
    assert (worker["host"], worker["slots"], worker["gpus"]) == ("box", 2, 2)


def announce(database: Database, *, gpus: int, devices: list[dict[str, Any]]) -> None:
    with database.begin() as session:
        now = database_now(session)
        row = WorkerRow(name="a", host="box", slots=1, gpus=gpus, devices=devices, started_at=now, seen_at=now)
        workers.announce(session, row)


def device(kind: str, refused: str | None) -> dict[str, Any]:
    product = "Tesla V100" if kind == "gpu" else None
    return {
        "kind": kind, "name": "0", "product": product, "memory_bytes": 16 << 30, "compute_capability": "7.0",
        "driver": "535.54", "refused": refused,
    }  # fmt: skip


def test_a_gpu_that_cannot_be_used_is_told_to_the_job_in_the_list_and_in_the_service_s_state(
    client: TestClient, database: Database, job_id: str
):
    devices = [device("gpu", "the driver is too old"), device("cpu", "not allowed")]
    announce(database, gpus=0, devices=devices)

    found = waiting(client, job_id)
    assert found["reason"] == "no_gpu"
    assert (
        "allow a CPU, by resources.require_gpu: false in the spec, or by RETORT_CPU_FALLBACK=true" in found["message"]
    )
    assert found["message"].endswith("; GPU 0 (Tesla V100) of box: the driver is too old")
    insists = client.post("/v1/jobs", json={**SPEC, "resources": {"require_gpu": True}}).json()["id"]
    assert "it requires a GPU (resources.require_gpu)" in waiting(client, insists)["message"]
    [worker] = client.get("/v1/workers").json()["data"]
    assert worker["devices"] == devices
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["checks"]["gpus"]["detail"] == "GPU 0 (Tesla V100) of box: the driver is too old"


def test_one_refused_gpu_among_several_leaves_the_service_ready(client: TestClient, database: Database, job_id: str):
    announce(database, gpus=1, devices=[device("gpu", None), device("gpu", "the driver is too old")])
    assert waiting(client, job_id)["reason"] == "turn"
    assert client.get("/readyz").json()["status"] == "ok"


def test_a_cpu_that_the_operator_allows_leaves_the_service_ready(client: TestClient, database: Database, job_id: str):
    announce(database, gpus=0, devices=[device("gpu", "the driver is too old"), device("cpu", None)])
    assert waiting(client, job_id)["reason"] == "turn"
    assert client.get("/readyz").json()["status"] == "ok"


def test_a_job_that_runs_waits_for_nothing(client: TestClient, lease: Lease):
    assert waiting(client, lease.job_id)["reason"] is None


def test_an_unknown_job_waits_for_nothing_at_all(client: TestClient):
    assert client.get("/v1/jobs/job_00000000000000000000000000000000/waiting").json()["code"] == "job_not_found"


@pytest.mark.usefixtures("announced")
def test_a_worker_is_drained_and_takes_jobs_again(client: TestClient, job_id: str):
    for _ in range(2):
        answer = client.post("/v1/workers/a/drain")
        assert (answer.status_code, answer.json()["drained_at"] is not None) == (200, True)
    assert "is drained" in waiting(client, job_id)["message"]
    assert "is drained" in client.get("/readyz").json()["checks"]["workers"]["detail"]

    assert client.post("/v1/workers/a/resume").json()["drained_at"] is None
    assert waiting(client, job_id)["reason"] == "turn"
    missing = client.post("/v1/workers/none/drain")
    assert (missing.status_code, missing.json()["code"]) == (404, "worker_not_found")
