"""What is used is counted by owner and kind, and retention says what it takes before it does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from results import RESULT
from retort.settings import Settings
from support.api_harness import SPEC, Worker, serving


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Keep nothing for long."""
    kept: dict[str, Any] = {"keep_jobs_s": 0.0, "keep_events_s": 0.0, "keep_trash_s": 0.0, "keep_unreferenced_s": 0.0}
    return Settings(home=tmp_path, database_url=database_url, **kept)


def finished(client: TestClient, worker: Worker, owner: str, *published: bytes) -> str:
    job_id: str = client.post("/v1/jobs", json=SPEC, params={"owner": owner}).json()["id"]
    lease = worker.claim(job_id)
    for number, data in enumerate(published):
        worker.publish(lease, f"{number}.bin", data)
    worker.succeed(lease, RESULT)
    return job_id


def test_usage_counts_bytes_jobs_and_months_by_owner(client: TestClient, worker: Worker):
    finished(client, worker, "ann", b"12345", b"678")
    gone = finished(client, worker, "bob", b"9")
    client.delete(f"/v1/jobs/{gone}")
    found = client.get("/v1/usage").json()
    assert found["stored"] == [
        {"project": "default", "owner": "ann", "kind": "student", "number": 2, "size_bytes": 8, "deleted_bytes": 0},
        {"project": "default", "owner": "bob", "kind": "student", "number": 1, "size_bytes": 1, "deleted_bytes": 1},
    ]
    assert found["jobs"] == [{"project": "default", "owner": "ann", "states": {"succeeded": 1}}]
    assert [(one["owner"], one["jobs"], one["gpu_s"]) for one in found["worked"]] == [("ann", 1, 0), ("bob", 1, 0)]


def test_a_dry_run_tells_what_goes_and_takes_nothing_and_pruning_takes_just_that(client: TestClient, worker: Worker):
    pinned, old = (finished(client, worker, "ann", data, b"shared") for data in (b"pinned", b"old"))
    client.patch(f"/v1/jobs/{pinned}", json={"keep": True})

    planned = client.post("/v1/prune", params={"dry_run": True}).json()
    shares = {share["kind"]: (share["number"], share["size_bytes"]) for share in planned["shares"]}
    assert shares["jobs to the trash"] == (1, len(b"old"))
    assert [job["id"] for job in client.get("/v1/jobs").json()["data"]] == [old, pinned]

    freed = 0
    for _ in range(3):
        freed += client.post("/v1/prune").json()["freed_bytes"]
    assert freed == len(b"old")
    assert [job["id"] for job in client.get("/v1/jobs").json()["data"]] == [pinned]
    assert client.get(f"/v1/jobs/{pinned}/artifacts/1.bin").content == b"shared"
    assert client.get(f"/v1/jobs/{pinned}/events").json()["data"] != []
    assert client.post("/v1/prune", params={"dry_run": True}).json()["done"] is True


def test_a_job_that_has_not_ended_is_never_pruned(client: TestClient, worker: Worker):
    queued, running = (client.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(2))
    worker.publish(worker.claim(running), "a.bin", b"a")
    before = {job_id: client.get(f"/v1/jobs/{job_id}/events").json() for job_id in (queued, running)}
    client.post("/v1/prune")
    client.post("/v1/prune")
    assert {job_id: client.get(f"/v1/jobs/{job_id}/events").json() for job_id in (queued, running)} == before
    assert client.get(f"/v1/jobs/{running}/artifacts/a.bin").content == b"a"


def test_metrics_have_bytes_by_kind_and_name_no_tenant(client: TestClient, worker: Worker):
    gone = finished(client, worker, "ann", b"12345")
    client.delete(f"/v1/jobs/{gone}")
    text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['retort_stored_bytes{kind="student"}']) == 5
    assert float(lines['retort_trash{kind="jobs"}']) == 1
    assert float(lines["retort_workers"]) == 0
    assert float(lines['retort_disk_free_bytes{folder="store"}']) > 0
    assert float(lines["retort_database_bytes"]) > 0
    assert "ann" not in text


def test_a_store_that_another_database_has_marked_is_left_alone(
    client: TestClient, worker: Worker, sqlite_template: Path, tmp_path: Path, settings: Settings
):
    kept = finished(client, worker, "ann", b"mine")
    client.post("/v1/prune")
    other = tmp_path / "other.db"
    shutil.copy(sqlite_template, other)
    foreign = settings.model_copy(update={"database_url": f"sqlite:///{other}"})
    with serving(foreign) as stranger:
        for _ in range(20):
            assert stranger.post("/v1/prune").json()["freed_bytes"] == 0
    assert worker.store.size(f"sha256/{'0' * 2}/{'0' * 64}") is None
    del kept
    assert any((tmp_path / "artifacts" / "sha256").rglob("*"))
