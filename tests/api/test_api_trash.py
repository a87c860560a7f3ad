"""What is deleted can be restored for a while; what somebody needs is not deleted; what nobody needs goes for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from results import RESULT
from retort.db import Database, Lease, model_registry
from retort.db.artifacts import NewArtifact
from retort.db.session import database_now
from retort.keeping import Keeper
from retort.settings import Settings
from retort.storage import Store
from support.api_harness import SPEC, SWEEP, Worker
from support.checkpoints import checkpoint

WEIGHTS = checkpoint({0: "eye"})
Round = Callable[[], None]


@pytest.fixture
def published(worker: Worker, lease: Lease) -> str:
    """Store a job that has ended, with two artifacts."""
    worker.publish(lease, "student.pt", b"student")
    worker.publish(lease, "report.html", b"report", media_type="text/html")
    worker.succeed(lease, RESULT)
    return lease.job_id


@pytest.fixture
def settle(settings: Settings, database: Database) -> Round:
    """Let trash and grace be over, and collect."""
    over = settings.model_copy(update={"keep_trash_s": 0.0, "keep_unreferenced_s": 0.0})

    def work() -> None:
        keeper = Keeper(database, lambda: Store(settings.store_url), over)
        for _ in range(2):
            keeper.round()

    return work


def listed(client: TestClient, path: str, **query: Any) -> list[str]:
    return [one["id"] for one in client.get(path, params=query).json()["data"]]


def test_a_deleted_job_is_in_the_trash_and_comes_back_whole(client: TestClient, published: str) -> None:
    home = f"/v1/jobs/{published}"
    before = client.get(home).json()

    for _ in range(2):
        assert client.delete(home).status_code == 204
    assert listed(client, "/v1/jobs") == []
    assert listed(client, "/v1/jobs", deleted=True) == [published]
    assert client.get(home).json()["deleted_at"] is not None
    refused = client.get(f"{home}/artifacts/student.pt")
    assert (refused.status_code, refused.json()["hint"]) == (404, "restore the job first")
    assert client.post(f"{home}/clone").json()["code"] == "wrong_state"
    assert client.patch(home, json={"keep": True}).json()["code"] == "wrong_state"

    for _ in range(2):
        assert client.post(f"{home}/restore").json()["deleted_at"] is None
    assert client.get(home).json() == before
    assert listed(client, "/v1/jobs", deleted=True) == []
    assert client.get(f"{home}/artifacts/student.pt").content == b"student"


def test_a_job_whose_time_in_the_trash_is_up_goes_with_its_rows_and_bytes(
    client: TestClient, published: str, worker: Worker, settle: Round
) -> None:
    client.delete(f"/v1/jobs/{published}")
    key = worker.store.put(worker.folder / "artifact").key  # of its report
    settle()
    assert client.get(f"/v1/jobs/{published}").json()["code"] == "job_not_found"
    assert client.post(f"/v1/jobs/{published}/restore").json()["code"] == "job_not_found"
    assert worker.store.size(key) is None


def test_bytes_stay_for_as_long_as_another_job_has_them(client: TestClient, worker: Worker, settle: Round) -> None:
    ids = [client.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(2)]
    for job_id in ids:
        lease = worker.claim(job_id)
        worker.publish(lease, "student.pt", b"the same")
        worker.succeed(lease, RESULT)
    client.delete(f"/v1/jobs/{ids[0]}")
    settle()
    assert client.get(f"/v1/jobs/{ids[1]}/artifacts/student.pt").content == b"the same"


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_job_that_has_not_ended_is_not_deleted(client: TestClient, worker: Worker, job_id: str, state: str) -> None:
    if state == "running":
        worker.claim(job_id)
    refused = client.delete(f"/v1/jobs/{job_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "wrong_state")
    assert "cancel it" in refused.json()["hint"]


def test_a_pinned_job_is_deleted_only_when_it_is_unpinned(client: TestClient, published: str) -> None:
    home = f"/v1/jobs/{published}"
    assert client.patch(home, json={"keep": True}).json()["keep"] is True
    assert client.delete(home).json()["code"] == "wrong_state"
    client.patch(home, json={"keep": False})
    assert client.delete(home).status_code == 204


def test_a_job_from_which_another_goes_on_is_deleted_after_that_has_ended(client: TestClient, published: str) -> None:
    child = client.post(f"/v1/jobs/{published}/clone").json()["id"]
    refused = client.delete(f"/v1/jobs/{published}")
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    assert child in refused.json()["detail"]
    client.post(f"/v1/jobs/{child}/cancel")
    assert client.delete(f"/v1/jobs/{published}").status_code == 204


def test_an_artifact_goes_to_the_trash_alone(client: TestClient, published: str) -> None:
    home = f"/v1/jobs/{published}/artifacts"
    assert client.delete(f"{home}/report.html").status_code == 204
    assert [one["name"] for one in client.get(home).json()["data"]] == ["student.pt"]
    assert [one["name"] for one in client.get(home, params={"deleted": True}).json()["data"]] == ["report.html"]
    assert client.get(f"{home}/report.html").status_code == 404
    assert client.post(f"{home}/report.html/restore").json()["deleted_at"] is None
    assert client.get(f"{home}/report.html").content == b"report"
    assert client.delete(f"{home}/none").json()["code"] == "artifact_not_found"


def push(client: TestClient) -> Any:
    headers = {"Content-Type": "application/octet-stream"}
    return client.post("/v1/models", params={"name": "eye"}, content=WEIGHTS, headers=headers).json()


def test_a_model_that_a_job_names_is_refused_with_who_names_it(client: TestClient) -> None:
    model = push(client)
    spec = {**SPEC, "teacher": {"weights": model["reference"]}}
    job_id = client.post("/v1/jobs", json=spec).json()["id"]

    refused = client.delete(model["links"]["file"])
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    assert job_id in refused.json()["detail"]

    client.post(f"/v1/jobs/{job_id}/cancel")
    assert client.delete(model["links"]["file"]).status_code == 409  # it says where the job came from
    client.delete(f"/v1/jobs/{job_id}")
    assert client.delete(model["links"]["file"]).status_code == 204
    assert listed(client, "/v1/models") == []
    assert listed(client, "/v1/models", deleted=True) == [model["id"]]
    assert client.post("/v1/jobs", json=spec).json()["code"] == "bad_spec"


def test_a_deleted_model_comes_back_by_restoring_and_by_sending_it_again(client: TestClient, settle: Round) -> None:
    model = push(client)
    address = model["links"]["file"]
    client.delete(address)
    assert client.post(f"{address[:-50]}/restore").json()["deleted_at"] is None
    client.delete(address)
    assert push(client)["deleted_at"] is None
    client.delete(address)
    settle()
    assert client.post(f"{address}/restore").json()["code"] == "model_not_found"
    assert push(client)["id"] != model["id"]
    assert client.get(address).content == WEIGHTS


def trained(client: TestClient, worker: Worker, weights: bytes) -> Any:
    """Return the model of a job whose student has these *weights*."""
    lease = worker.claim(client.post("/v1/jobs", json=SPEC).json()["id"])
    worker.publish(lease, "student.pt", weights)
    stored = worker.store.put(worker.folder / "artifact")
    artifact = NewArtifact("student.pt", "student", stored.sha256, stored.size_bytes, "x/y", stored.key)
    with worker.database.begin() as session:
        model_registry.register_trained(session, lease, artifact, now=database_now(session))
    worker.succeed(lease, RESULT)
    found = client.get("/v1/models").json()["data"]
    return next(model for model in found if model["sha256"] == stored.sha256)


def test_a_trained_model_goes_and_comes_back_with_its_job(client: TestClient, worker: Worker, settle: Round) -> None:
    model = trained(client, worker, b"one")
    home = f"/v1/jobs/{model['job_id']}"
    client.delete(home)
    assert listed(client, "/v1/models") == []
    client.post(f"{home}/restore")
    assert listed(client, "/v1/models") == [model["id"]]
    client.delete(home)
    settle()
    assert worker.store.size(f"sha256/{model['sha256'][:2]}/{model['sha256']}") is None


def test_a_trained_model_stays_where_a_spec_names_it_or_an_equal_job_has_it_too(
    client: TestClient, worker: Worker, settle: Round
) -> None:
    named, equal = trained(client, worker, b"named"), trained(client, worker, b"equal")
    client.post("/v1/jobs", json={**SPEC, "teacher": {"weights": named["reference"]}})
    again = trained(client, worker, b"equal")
    assert again["id"] == equal["id"]
    for model in (named, equal):
        assert client.delete(f"/v1/jobs/{model['job_id']}").status_code == 204
    settle()
    assert set(listed(client, "/v1/models")) == {named["id"], equal["id"]}
    for model, weights in ((named, b"named"), (equal, b"equal")):
        assert client.get(model["links"]["file"]).content == weights


def test_a_sweep_goes_with_its_jobs_and_comes_back_with_them(client: TestClient, worker: Worker, settle: Round) -> None:
    sweep_id = client.post("/v1/sweeps", json=SWEEP).json()["id"]
    assert client.delete(f"/v1/sweeps/{sweep_id}").json()["code"] == "wrong_state"
    worker.try_all(sweep_id, lambda _: 0.5)
    ids = listed(client, "/v1/jobs")
    refused = client.delete(f"/v1/jobs/{ids[0]}")
    assert refused.json()["code"] == "in_use"
    assert sweep_id in refused.json()["detail"]

    assert client.delete(f"/v1/sweeps/{sweep_id}").status_code == 204
    assert (listed(client, "/v1/sweeps"), listed(client, "/v1/jobs")) == ([], [])
    assert client.post(f"/v1/jobs/{ids[0]}/restore").json()["code"] == "wrong_state"
    client.post(f"/v1/sweeps/{sweep_id}/restore")
    assert (listed(client, "/v1/sweeps"), listed(client, "/v1/jobs")) == ([sweep_id], ids)

    client.delete(f"/v1/sweeps/{sweep_id}")
    settle()
    settle()
    assert client.get(f"/v1/sweeps/{sweep_id}").json()["code"] == "sweep_not_found"
    assert listed(client, "/v1/jobs", deleted=True) == []


def test_what_is_not_there_cannot_be_deleted(client: TestClient) -> None:
    nobody = "0" * 32
    for address, code in (
        (f"/v1/jobs/job_{nobody}", "job_not_found"),
        (f"/v1/sweeps/swp_{nobody}", "sweep_not_found"),
        (f"/v1/models/eye/{'0' * 64}", "model_not_found"),
    ):
        assert client.delete(address).json()["code"] == code
        assert client.post(f"{address}/restore").json()["code"] == code


def test_every_list_links_to_the_next_page_of_the_trash(client: TestClient, app: FastAPI) -> None:
    del app
    for _ in range(2):
        job_id = client.post("/v1/jobs", json=SPEC).json()["id"]
        client.post(f"/v1/jobs/{job_id}/cancel")
        client.delete(f"/v1/jobs/{job_id}")
    page = client.get("/v1/jobs", params={"deleted": True, "limit": 1})
    assert "deleted=true" in page.headers["Link"]
    assert page.json()["has_more"]
