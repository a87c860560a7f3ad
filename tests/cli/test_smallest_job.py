"""The one real training of the quick lane: a job from POST to its published student, on nothing but the defaults."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import httpx2 as httpx
import pytest
from cli.commands import bearer, free_port, running
from core.training.pictures import draw

pytestmark = [pytest.mark.train, pytest.mark.smallest]

PATIENCE_S = 240.0
SPEC = {
    "name": "smallest",
    "teacher": {"train": {"model": "yolo11n", "weights": None, "epochs": 1}},
    "student": {"model": "yolov8n", "weights": None},
    "training": {"epochs": 1, "imgsz": 64, "batch": 4, "close_mosaic": 0},
    "control": False,
    "exports": [],
}


def settled(client: httpx.Client, job_id: str) -> dict[str, object]:
    """The job, once nothing will happen to it any more."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        job: dict[str, object] = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        if job["finished_at"] is not None:
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.2)


def test_a_posted_job_is_trained_by_the_embedded_worker_and_its_student_published(tmp_path: Path):
    data = draw(tmp_path / "data", num_train=4, num_val=2).parent
    with (
        running(tmp_path / "home", "--port", str(free_port())) as (_, ready),
        httpx.Client(base_url=ready["url"], headers=bearer(ready), timeout=30) as client,
    ):
        accepted = client.post("/v1/jobs", json={**SPEC, "data": {"path": str(data)}})
        assert accepted.status_code == 202, accepted.text
        job = settled(client, accepted.json()["id"])
        assert job["state"] == "succeeded", (tmp_path / "home.log").read_text()[-3000:]
        assert {"teacher", "start", "student"} == set(job["result"]["roles"])  # type: ignore[index]
        student = client.get(f"/v1/jobs/{job['id']}/artifacts/student.pt", follow_redirects=True).raise_for_status()
        metrics = client.get(f"/v1/jobs/{job['id']}/metrics").raise_for_status().json()
    assert zipfile.is_zipfile(io.BytesIO(student.content))
    assert len(student.content) > 1_000_000
    assert metrics
