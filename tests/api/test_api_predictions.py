"""An image in, boxes out: by the job's last network, through a bounded queue, answered by a worker."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.db import Database, Lease, artifacts, jobs, model_registry, predictions
from retort.db.session import database_now
from retort.settings import Settings
from retort.storage import Store
from retort_api.routes import predictions as route
from retort_worker.context import WorkerContext
from retort_worker.predictions import PredictionLoop
from support.api_harness import Worker

SCRIPT = (sys.executable, str(Path(__file__).parents[1] / "support" / "scripted_predictor.py"))
BYTES = {"Content-Type": "application/octet-stream"}


def ask(client: TestClient, job_id: str, image: bytes = b"image", **query: Any) -> Any:
    return client.post(f"/v1/jobs/{job_id}/predict", content=image, headers=BYTES, params=query)


@contextmanager
def predicting(settings: Settings, database: Database) -> Iterator[None]:
    store = Store(settings.store_url)
    context = WorkerContext(database, store, settings.model_copy(update={"confinement": "off"}), "w:1:a", "here")
    loop = PredictionLoop(context, SCRIPT)
    loop.start()
    yield
    loop.stop()


@pytest.fixture
def published(worker: Worker, lease: Lease) -> str:
    worker.publish(lease, "student.pt", b"published")
    return lease.job_id


def save(worker: Worker, lease: Lease, *names: str, stage: str = "distill") -> None:
    files = []
    for name in names:
        path = worker.folder / "saved"
        path.write_text(name)
        stored = worker.store.put(path, saved_by=(lease.job_id, lease.attempt))
        about = {"path": f"work/{stage}/best/{name}", "key": stored.key, "sha256": stored.sha256}
        files.append({**about, "size_bytes": stored.size_bytes})
    saved = {"job_id": lease.job_id, "attempt": lease.attempt, "stage": stage, "epoch": 3, "files": files}
    with worker.database.begin() as session:
        assert artifacts.record_recovery(session, lease, saved, now=database_now(session))


def test_the_published_student_is_asked(client: TestClient, settings: Settings, database: Database, published: str):
    with predicting(settings, database):
        answer = ask(client, published, confidence=0.5)
    told = answer.json()
    assert answer.status_code == 200, answer.text
    assert [(box["name"], box["score"]) for box in told["boxes"]] == [("published", 0.5)]
    assert (told["width"], told["height"], told["final"], told["epoch"]) == (5, 640, True, 1)


def test_while_the_student_trains_its_best_network_so_far_is_asked(
    client: TestClient, settings: Settings, database: Database, worker: Worker, lease: Lease
):
    assert ask(client, lease.job_id).json()["code"] == "no_checkpoint"
    save(worker, lease, "best-0007.pt", stage="train_teacher")
    assert ask(client, lease.job_id).json()["code"] == "no_checkpoint"
    save(worker, lease, "00003.state", "best-0002.pt", "best-0003.pt")
    with predicting(settings, database):
        told = ask(client, lease.job_id).json()
    assert (told["boxes"][0]["name"], told["epoch"], told["final"]) == ("best-0003.pt", 3, False)


def test_an_image_that_nobody_can_read_is_the_clients_mistake(
    client: TestClient, settings: Settings, database: Database, published: str
):
    with predicting(settings, database):
        refused = ask(client, published, b"bad")
        died = ask(client, published, b"die")
        after = ask(client, published)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_image")
    assert (died.status_code, died.json()["code"], died.json()["retryable"]) == (503, "no_predictor", True)
    assert after.status_code == 200
    assert ask(client, published, b"").json()["code"] == "bad_image"


def test_without_a_worker_the_answer_says_so_and_nothing_is_left(
    client: TestClient, published: str, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(route, "_PATIENCE_S", 0.2)
    assert ask(client, published).json()["code"] == "no_predictor"
    with database.read() as session:
        assert not predictions.waits(session)


def test_images_that_wait_are_bounded(client: TestClient, app: Any, published: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(route, "_PATIENCE_S", 3.0)
    most = app.state.service.settings.max_predictions
    answers: list[str] = []

    def send() -> None:
        answers.append(ask(client, published).json()["code"])

    waiting = [threading.Thread(target=send) for _ in range(most + 4)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert sorted(answers) == ["no_predictor"] * most + ["too_many_predictions"] * 4


def test_an_image_larger_than_allowed_is_refused(client: TestClient, app: Any, published: str):
    most = app.state.service.settings.max_image_bytes
    assert ask(client, published, b"x" * (most + 1)).json()["code"] == "body_too_large"


def test_any_network_of_the_job_that_the_store_has_is_asked_by_its_name(
    client: TestClient, settings: Settings, database: Database, worker: Worker, lease: Lease
):
    names = ("student.pt", "control.pt", "teacher.pt", "checkpoints/student-epoch-0010.pt")
    for name in names:
        worker.publish(lease, name, name.encode())
    worker.publish(lease, "student.onnx", b"no network of ours")
    with predicting(settings, database):
        told = {name: ask(client, lease.job_id, network=name).json() for name in names}
    assert [told[name]["boxes"][0]["name"] for name in names] == list(names)
    assert [told[name]["final"] for name in names] == [True, True, True, False]
    for name in ("student.onnx", "teacher", "../student.pt", "report.html"):
        refused = ask(client, lease.job_id, network=name)
        assert (refused.status_code, refused.json()["code"]) == (409, "no_checkpoint"), name
        assert "control.pt" in refused.json()["hint"]


def test_a_registered_teacher_is_asked_by_its_role(
    client: TestClient, settings: Settings, database: Database, worker: Worker, lease: Lease
):
    key = worker.publish(lease, "any.pt", b"of the teacher")
    digest = client.get(f"/v1/jobs/{lease.job_id}/artifacts").json()["data"][0]["sha256"]
    model = model_registry.NewModel(
        name="street-teacher", sha256=digest, size_bytes=14, key=key, project="default", owner="default"
    )
    with database.begin() as session:
        model_registry.register(session, model, now=database_now(session))
        spec = {**jobs.get(session, lease.job_id).spec, "teacher": {"weights": f"model:street-teacher@sha256:{digest}"}}
        jobs.get(session, lease.job_id).spec = spec
    with predicting(settings, database):
        answer = ask(client, lease.job_id, network="teacher")
    assert answer.json()["boxes"][0]["name"] == "of the teacher", answer.text
