"""Event files for TensorBoard: what is on record, at any time, as TensorBoard reads it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from core.tracking import records
from fastapi.testclient import TestClient
from results import result
from retort.constants import HEATMAPS, Role
from retort.db import Lease
from retort.protocol.events import MetricEvent, RunFailure
from support.api_harness import SPEC, Worker


def measured(n: int, role: Role, step: int, **values: float | None) -> MetricEvent:
    return MetricEvent(n=n, at=1_000_000.0 + n, role=role, step=step, values=values)


def unpacked(data: bytes, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        file.extractall(folder)
    return folder


def test_a_running_jobs_curves_are_drawn_over_each_other(
    client: TestClient, worker: Worker, lease: Lease, tmp_path: Path
) -> None:
    said = [
        measured(1, Role.TEACHER, 1, loss=2.0, map=0.5),
        measured(2, Role.STUDENT, 1, loss=1.0, map=0.25),
        measured(3, Role.STUDENT, 2, loss=None, map=0.375),
        measured(4, Role.CONTROL, 2, map=0.125),
    ]
    worker.record(lease, *said)

    answer = client.get(f"/v1/jobs/{lease.job_id}/artifacts/tensorboard")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="first-tensorboard.zip"'
    folder = unpacked(answer.content, tmp_path / "logs")
    assert records.scalars(folder) == {
        "teacher/loss": {1: 2.0},
        "teacher/map": {1: 0.5},
        "student/loss": {1: 1.0},
        "student/map": {1: 0.25, 2: 0.375},
        "control/map": {2: 0.125},
    }
    assert "name: first" in records.texts(folder)["spec"]
    assert lease.job_id in records.texts(folder)["tags"]


def test_the_same_record_makes_the_same_bytes_which_need_not_be_sent_again(
    client: TestClient, worker: Worker, lease: Lease
) -> None:
    address = f"/v1/jobs/{lease.job_id}/artifacts/tensorboard"
    worker.record(lease, measured(1, Role.STUDENT, 1, loss=1.0))
    etag = client.get(address).headers["ETag"]

    again = client.get(address, headers={"If-None-Match": etag})
    worker.record(lease, measured(2, Role.STUDENT, 2, loss=0.5))

    assert (again.status_code, again.content) == (304, b"")
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 200


def test_what_came_of_a_job_is_there_too(client: TestClient, worker: Worker, lease: Lease, tmp_path: Path) -> None:
    worker.record(lease, measured(1, Role.STUDENT, 1, loss=1.0))
    worker.succeed(lease, result(student=0.5))

    data = client.get(f"/v1/jobs/{lease.job_id}/artifacts/tensorboard").content

    folder = unpacked(data, tmp_path / "logs")
    assert records.scalars(folder)["job/student/map"] == {0: 0.5}
    assert "_hparams_/session_start_info" in records.tags(folder)


def test_a_failed_job_says_why(client: TestClient, worker: Worker, lease: Lease, tmp_path: Path) -> None:
    worker.fail(lease, RunFailure(code="diverged", message="the loss is not a number"))

    data = client.get(f"/v1/jobs/{lease.job_id}/artifacts/tensorboard").content

    assert "diverged: the loss is not a number" in records.texts(unpacked(data, tmp_path / "logs"))["failure"]


def test_where_the_spec_wants_none_there_are_none(small_client: TestClient) -> None:
    job_id = small_client.post("/v1/jobs", json={**SPEC, "tracking": {"tensorboard": False}}).json()["id"]

    answer = small_client.get(f"/v1/jobs/{job_id}/artifacts/tensorboard")

    assert (answer.status_code, answer.json()["code"]) == (404, "artifact_not_found")
    assert "tracking.tensorboard: false" in answer.json()["hint"]


def test_a_job_that_is_not_there_has_none(small_client: TestClient) -> None:
    answer = small_client.get(f"/v1/jobs/job_{'0' * 32}/artifacts/tensorboard")

    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_a_running_jobs_maps_are_in_the_archive_by_epoch(
    client: TestClient, worker: Worker, lease: Lease, tmp_path: Path
) -> None:
    about = {"width": 640, "height": 178}
    drawn = {epoch: f"the sheet of epoch {epoch}".encode() for epoch in (1, 2)}
    for epoch, content in drawn.items():
        worker.publish(lease, f"{HEATMAPS}epoch-{epoch:04d}.jpg", content, metadata={**about, "epoch": epoch})
    worker.publish(lease, f"{HEATMAPS}of-another-kind.jpg", b"no sheet", metadata={"epoch": "first"})
    worker.publish(lease, "student.pt", b"weights", metadata={**about, "epoch": 3})
    worker.record(lease, measured(1, Role.STUDENT, 1, loss=1.0))

    answer = client.get(f"/v1/jobs/{lease.job_id}/artifacts/tensorboard")

    folder = unpacked(answer.content, tmp_path / "logs")
    shown = {epoch: ((640, 178), content) for epoch, content in drawn.items()}
    assert records.pictures(folder) == {"student/health/heatmaps": shown}
    assert records.scalars(folder) == {"student/loss": {1: 1.0}}


def test_the_curves_are_there_when_the_bytes_of_a_map_are_lost(
    client: TestClient, worker: Worker, lease: Lease, tmp_path: Path
) -> None:
    about = {"epoch": 1, "width": 640, "height": 178}
    key = worker.publish(lease, f"{HEATMAPS}epoch-0001.jpg", b"a sheet", metadata=about)
    worker.store.delete([key])
    worker.record(lease, measured(1, Role.STUDENT, 1, loss=1.0))

    answer = client.get(f"/v1/jobs/{lease.job_id}/artifacts/tensorboard")

    assert answer.status_code == 200
    assert records.scalars(unpacked(answer.content, tmp_path / "logs")) == {"student/loss": {1: 1.0}}
