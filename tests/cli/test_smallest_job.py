"""The one real training of the quick lane: from a folder that is pushed to a published student, by the defaults."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from cli.commands import bearer, environment, free_port, key_of, running
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


def pushed(data: Path, ready: dict[str, Any]) -> Any:
    """Push a folder by the command line; return the dataset, once a worker has checked it."""
    command = [sys.executable, "-m", "retort.cli", "datasets", "push", str(data), "--name", "smallest", "--json"]
    variables = environment(url=ready["url"], key=key_of(ready))
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_posted_job_is_trained_by_the_embedded_worker_and_its_student_published(tmp_path: Path):
    about = draw(tmp_path / "data", num_train=4, num_val=2)
    lines = about.read_text().splitlines(keepends=True)
    about.write_text("".join(line for line in lines if not line.startswith("path:")))  # it goes elsewhere
    data = about.parent
    with (
        running(tmp_path / "home", "--port", str(free_port())) as (_, ready),
        httpx.Client(base_url=ready["url"], headers=bearer(ready), timeout=30) as client,
    ):
        dataset = pushed(data, ready)
        assert dataset["reference"] == f"dataset:smallest@sha256:{dataset['sha256']}"
        data.rename(tmp_path / "elsewhere")  # the run has nothing but what was sent
        accepted = client.post("/v1/jobs", json={**SPEC, "data": {"dataset": "dataset:smallest"}})
        assert accepted.status_code == 202, accepted.text
        job = settled(client, accepted.json()["id"])
        assert job["state"] == "succeeded", (tmp_path / "home.log").read_text()[-3000:]
        assert job["spec"]["data"]["dataset"] == dataset["reference"]  # type: ignore[index]
        assert {"teacher", "start", "student"} == set(job["result"]["roles"])  # type: ignore[index]
        student = client.get(f"/v1/jobs/{job['id']}/artifacts/student.pt", follow_redirects=True).raise_for_status()
        metrics = client.get(f"/v1/jobs/{job['id']}/metrics").raise_for_status().json()
    assert zipfile.is_zipfile(io.BytesIO(student.content))
    assert len(student.content) > 1_000_000
    assert metrics
