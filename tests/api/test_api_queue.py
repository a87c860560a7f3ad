"""A job that waits says its place, for what, and since when nobody could take it."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from results import RESULT
from retort.db import Database, queue, workers
from retort.db.models import WorkerRow
from retort.db.session import database_now
from support.api_harness import SPEC, Worker


@pytest.fixture
def announced(database: Database) -> str:
    with database.begin() as session:
        now = database_now(session)
        workers.announce(session, WorkerRow(name="w1", host="box", slots=1, gpus=1, started_at=now, seen_at=now))
    return "w1"


def submitted(client: TestClient, **query: Any) -> str:
    found: str = client.post("/v1/jobs", json=SPEC, params=query).json()["id"]
    return found


def look_again(client: TestClient) -> None:
    """Let a moment pass, after which the queue is looked at again."""
    client.app.state.service.queue._good_until = 0.0  # type: ignore[attr-defined]


def queue_of(client: TestClient, job_id: str) -> Any:
    look_again(client)
    return client.get(f"/v1/jobs/{job_id}").json()["queue"]


@pytest.mark.usefixtures("announced")
def test_places_are_those_in_which_jobs_are_claimed(client: TestClient, worker: Worker):
    """Owners take turns, and one with a job on a worker comes after one without."""
    worker.claim(submitted(client, owner="ann"))
    ids = [submitted(client, owner=owner) for owner in ("ann", "ann", "bob")]
    ids.append(submitted(client, owner="ann", priority=1))
    dealt = [ids[3], ids[2], ids[0], ids[1]]
    look_again(client)
    found = {job["id"]: job["queue"] for job in client.get("/v1/jobs", params={"state": "queued"}).json()["data"]}
    assert [found[job_id]["position"] for job_id in dealt] == [1, 2, 3, 4]
    assert [queue_of(client, job_id)["ahead"] for job_id in dealt] == [0, 1, 2, 3]
    for job_id in dealt:
        with worker.database.read() as session:
            assert queue.claimable(session, now=database_now(session))[0].job_id == job_id
        worker.claim(job_id)


@pytest.mark.usefixtures("announced")
def test_a_job_that_no_worker_can_take_stands_in_nobody_s_way(client: TestClient):
    large = client.post("/v1/jobs", json={**SPEC, "resources": {"gpus": 8}}).json()["id"]
    other = submitted(client)
    assert (queue_of(client, large)["reason"], queue_of(client, other)["ahead"]) == ("too_many_gpus", 0)


@pytest.mark.usefixtures("announced")
def test_the_start_is_estimated_from_jobs_that_have_ended_and_from_nothing_else(client: TestClient, worker: Worker):
    first = submitted(client)
    assert queue_of(client, first)["estimated_start_s"] is None
    for job_id in (first, submitted(client), submitted(client)):
        worker.succeed(worker.claim(job_id), RESULT)
    assert queue_of(client, submitted(client))["estimated_start_s"] == 0.0


def test_a_paused_job_and_one_that_runs_have_no_place(client: TestClient, worker: Worker):
    paused, running = submitted(client), submitted(client)
    client.post(f"/v1/jobs/{paused}/pause")
    worker.claim(running)
    assert queue_of(client, running) is None
    found = queue_of(client, paused)
    assert (found["reason"], found["position"]) == ("paused", None)


def test_the_entity_tag_of_a_queued_job_changes_with_its_place_and_if_match_does_not_mind(
    client: TestClient, worker: Worker
):
    first, second = submitted(client), submitted(client)
    home = f"/v1/jobs/{second}"
    look_again(client)
    before = client.get(home)
    tag = before.headers["ETag"]
    assert client.get(home, headers={"If-None-Match": tag}).status_code == 304
    worker.claim(first)
    look_again(client)
    after = client.get(home, headers={"If-None-Match": tag})
    assert (after.status_code, after.json()["queue"]["position"], after.headers["ETag"] != tag) == (200, 1, True)
    assert client.patch(home, json={"priority": 3}, headers={"If-Match": tag}).status_code == 200
    assert client.patch(home, json={"priority": 4}, headers={"If-Match": tag}).status_code == 412


def test_without_a_worker_the_service_is_degraded_and_says_since_when(client: TestClient, database: Database):
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["checks"]["workers"]["detail"].endswith("none has been seen")
    with database.begin() as session:
        now = database_now(session)
        workers.announce(session, WorkerRow(name="w1", host="box", slots=2, gpus=0, started_at=now, seen_at=now))
    assert client.get("/readyz").json()["status"] == "ok"
    assert client.get("/v1/workers").json()["data"][0]["busy"] == 0
    with database.begin() as session:
        workers.leave(session, "w1")
    detail = client.get("/readyz").json()["checks"]["workers"]["detail"]
    assert "the last was seen at 20" in detail
    assert client.get("/v1/workers").json()["data"] == []


@pytest.mark.usefixtures("announced")
def test_a_worker_tells_how_many_jobs_it_holds(client: TestClient, worker: Worker):
    worker.claim(submitted(client))
    assert client.get("/v1/workers").json()["data"][0]["busy"] == 1


@pytest.mark.usefixtures("announced")
def test_a_job_says_which_quota_it_waits_for_and_stands_in_nobodys_way(client: TestClient, worker: Worker):
    client.put("/v1/projects/default/quota", json={"running_jobs": 1})
    client.post("/v1/projects", json={"name": "other"})
    worker.claim(submitted(client))
    held_up, other = submitted(client, priority=5), submitted(client, project="other")
    place = queue_of(client, held_up)
    assert place["reason"] == "quota"
    assert "quota of running jobs, 1, is used up" in place["message"]
    waiting = client.get(f"/v1/jobs/{held_up}/waiting").json()
    assert (waiting["reason"], waiting["message"]) == (place["reason"], place["message"])
    assert (queue_of(client, other)["reason"], queue_of(client, other)["ahead"]) == ("turn", 0)

    client.put("/v1/projects/default/quota", json={"running_jobs": 2})
    assert queue_of(client, held_up)["reason"] == "turn"
    client.put("/v1/projects/default/quota", json={"gpu_hours": 0})
    assert "GPU hours of this month are used up" in queue_of(client, held_up)["message"]
