"""Submitting, looking, listing and cancelling."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from results import RESULT
from retort.constants import MAP, MAP50, Role
from retort.db import Lease, artifacts
from retort.db.session import database_now
from retort.protocol.events import MetricEvent, ProgressEvent, RunFailure, StageEvent
from stored_results import stored
from support.api_harness import SPEC, Worker, serving

YAML = {"Content-Type": "application/yaml"}


def test_a_submitted_job_is_queued_and_says_where_and_when_to_look(client: TestClient) -> None:
    answer = client.post("/v1/jobs", json=SPEC)

    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert answer.headers["Retry-After"] == "2"
    assert answer.headers["ETag"] == '"1"'
    assert (job["state"], job["progress"], job["attempt"], job["attempts"]) == ("queued", 0, 0, [])
    assert [(t["kind"], t["name"], t["actor"]) for t in job["transitions"]] == [("state", "queued", "client")]
    assert job["created_at"].endswith("Z")


def test_the_stored_spec_is_written_out_and_gives_the_same_job_again(client: TestClient) -> None:
    first = client.post("/v1/jobs", json=SPEC).json()

    again = client.post("/v1/jobs", json=first["spec"]).json()

    assert [loss["kind"] for loss in first["spec"]["distillation"]["losses"]] == ["class_logits", "dfl", "pearson"]
    assert again["spec_digest"] == first["spec_digest"]
    assert again["id"] != first["id"]


@pytest.mark.parametrize("content_type", ["application/yaml", "text/yaml; charset=utf-8", "application/x-yaml"])
def test_yaml_and_json_say_the_same(small_client: TestClient, content_type: str) -> None:
    written = yaml.safe_dump(SPEC)

    from_yaml = small_client.post("/v1/jobs", content=written, headers={"Content-Type": content_type})

    assert from_yaml.status_code == 202
    assert from_yaml.json()["spec"] == small_client.post("/v1/jobs", json=SPEC).json()["spec"]


def test_the_same_key_and_spec_answer_with_the_same_job(client: TestClient) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = client.post("/v1/jobs", json=SPEC, headers=key)

    defaults_spelt_out = {"training": {}, **dict(reversed(SPEC.items())), "control": True}
    again = client.post("/v1/jobs", content=yaml.safe_dump(defaults_spelt_out), headers={**key, **YAML})

    assert "Idempotency-Replayed" not in first.headers
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_the_same_key_with_another_spec_is_refused(client: TestClient) -> None:
    key = {"Idempotency-Key": "k-1"}
    client.post("/v1/jobs", json=SPEC, headers=key)

    answer = client.post("/v1/jobs", json={**SPEC, "name": "second"}, headers=key)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_many_submissions_at_once_with_one_key_make_one_job(client: TestClient) -> None:
    def submit(_: int) -> Any:
        return client.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "race"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(16)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "sch\u00f6n"])
def test_a_key_that_is_not_a_key_is_refused(small_client: TestClient, key: str) -> None:
    answer = small_client.post("/v1/jobs", json=SPEC, headers=[(b"Idempotency-Key", key.encode())])

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")
    assert answer.json()["errors"][0]["path"] == "header.idempotency-key"


def test_a_dead_broker_neither_fails_nor_delays_a_submission(small_settings: Any) -> None:
    dead = small_settings.model_copy(update={"broker_url": "redis://192.0.2.1:6379/0"})  # answers nothing at all
    with serving(dead) as client:
        begun = time.monotonic()
        answer = client.post("/v1/jobs", json=SPEC)

        assert answer.status_code == 202
        assert time.monotonic() - begun < 1.0


def test_looking_again_costs_nothing_until_something_changes(client: TestClient, worker: Worker, job_id: str) -> None:
    first = client.get(f"/v1/jobs/{job_id}")
    known = {"If-None-Match": f'"other", W/{first.headers["ETag"]}'}

    unchanged = client.get(f"/v1/jobs/{job_id}", headers=known)
    worker.claim(job_id)
    changed = client.get(f"/v1/jobs/{job_id}", headers=known)

    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["ETag"] == first.headers["ETag"]
    assert unchanged.headers["Retry-After"] == "10"
    assert (changed.status_code, changed.json()["state"]) == (200, "running")
    assert changed.headers["ETag"] != first.headers["ETag"]
    assert changed.headers["Retry-After"] == "2"
    assert client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": "*"}).status_code == 304


def test_a_running_job_tells_its_stage_progress_and_best_epoch(
    client: TestClient, worker: Worker, lease: Lease
) -> None:
    worker.record(
        lease,
        StageEvent(n=1, at=1.0, stage="distill"),
        ProgressEvent(n=2, at=2.0, progress=0.25, eta_s=90.0),
        MetricEvent(n=3, at=3.0, role=Role.STUDENT, step=1, values={MAP50: 0.5, MAP: 0.3}),
        MetricEvent(n=4, at=4.0, role=Role.STUDENT, step=2, values={MAP50: 0.4, MAP: 0.2}),
    )

    job = client.get(f"/v1/jobs/{lease.job_id}").json()

    assert (job["stage"], job["progress"], job["eta_s"]) == ("distill", 0.25, 90.0)
    assert job["best"] == {"role": "student", "epoch": 1, "val/mAP50": 0.5, "val/mAP50-95": 0.3}
    assert [(a["number"], a["state"], a["host"], a["device"]) for a in job["attempts"]] == [
        (1, "running", "here", "cpu")
    ]
    assert [t["name"] for t in job["transitions"]] == ["queued", "running", "distill"]


def test_what_a_worker_has_saved_makes_another_version_of_the_job(
    client: TestClient, worker: Worker, lease: Lease
) -> None:
    address = f"/v1/jobs/{lease.job_id}"
    before = [client.get(address), client.get(address)]
    saved = {"job_id": lease.job_id, "attempt": 1, "stage": "distill", "epoch": 3, "files": []}
    with worker.database.begin() as session:
        assert artifacts.record_recovery(session, lease, saved, now=database_now(session))

    after = client.get(address, headers={"If-None-Match": before[0].headers["ETag"]})

    assert [answer.json()["saved"] for answer in before] == [None, None]
    assert before[0].content == before[1].content
    assert after.status_code == 200
    assert after.headers["ETag"] != before[0].headers["ETag"]
    assert after.json()["saved"] == {"attempt": 1, "stage": "distill", "epoch": 3}


def test_a_failed_job_says_why_and_what_to_change(client: TestClient, worker: Worker, lease: Lease) -> None:
    worker.fail(lease, RunFailure(code="bad_data", message="no labels", hint="add labels"))

    answer = client.get(f"/v1/jobs/{lease.job_id}")

    job = answer.json()
    assert job["state"] == "failed"
    assert (job["failure"]["code"], job["failure"]["hint"], job["failure"]["retryable"]) == (
        "bad_data", "add labels", False,
    )  # fmt: skip
    assert job["attempts"][0]["exit_code"] == 1
    assert "Retry-After" not in answer.headers


def test_a_succeeded_job_holds_its_result(client: TestClient, worker: Worker, lease: Lease) -> None:
    worker.succeed(lease, RESULT)

    job = client.get(f"/v1/jobs/{lease.job_id}").json()

    assert (job["state"], job["progress"], job["result"]) == ("succeeded", 1.0, stored())


def test_a_list_is_paged_newest_first_without_gaps(client: TestClient) -> None:
    made = [client.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(5)]

    seen, address = [], "/v1/jobs?limit=2"
    while address:
        answer = client.get(address)
        page = answer.json()
        seen.append([job["id"] for job in page["data"]])
        address = answer.links["next"]["url"] if page["has_more"] else ""
        assert (page["next_cursor"] is not None) == page["has_more"] == ("Link" in answer.headers)

    assert seen == [made[:2:-1], made[2:0:-1], made[:1]]


def test_a_list_can_be_narrowed_to_states(client: TestClient, worker: Worker) -> None:
    queued, running, cancelled = (client.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(3))
    worker.claim(running)
    client.post(f"/v1/jobs/{cancelled}/cancel")

    def listed(query: str) -> list[str]:
        return [job["id"] for job in client.get(f"/v1/jobs?{query}").json()["data"]]

    assert listed("state=queued") == [queued]
    assert listed("state=queued&state=running") == [running, queued]
    assert listed("state=failed") == []
    following = client.get("/v1/jobs?state=queued&state=running&limit=1").links["next"]["url"]
    assert [job["id"] for job in client.get(following).json()["data"]] == [queued]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "state=ready", "cursor=", "cursor=abc", "cursor=!", "stat=queued"]
)
def test_a_wrong_query_is_refused_and_named(small_client: TestClient, query: str) -> None:
    answer = small_client.get(f"/v1/jobs?{query}")

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")
    assert answer.json()["errors"][0]["path"].startswith(f"query.{query.partition('=')[0]}")


def test_a_queued_job_is_cancelled_at_once(client: TestClient, job_id: str) -> None:
    answers = [client.post(f"/v1/jobs/{job_id}/cancel") for _ in range(2)]

    assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(200, "cancelled")] * 2


def test_a_running_job_is_asked_to_stop(client: TestClient, lease: Lease) -> None:
    answers = [client.post(f"/v1/jobs/{lease.job_id}/cancel") for _ in range(2)]

    assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(202, "cancelling")] * 2
    assert answers[0].headers["Retry-After"] == "2"


def test_a_job_that_has_ended_cannot_be_cancelled(client: TestClient, worker: Worker, lease: Lease) -> None:
    worker.succeed(lease, RESULT)

    answer = client.post(f"/v1/jobs/{lease.job_id}/cancel")

    assert (answer.status_code, answer.json()["code"]) == (409, "job_already_finished")
    assert client.get(f"/v1/jobs/{lease.job_id}").json()["state"] == "succeeded"


@pytest.mark.parametrize("name", ["job_" + "0" * 32, "nope", "%00", "..", "job_" + "0" * 31 + "%0a"])
def test_an_unknown_job_is_not_found(client: TestClient, name: str) -> None:
    for part in ("", "/events", "/stream", "/metrics", "/artifacts", "/artifacts/student.pt"):
        answer = client.get(f"/v1/jobs/{name}{part}")

        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
        assert answer.json()["code"] == "not_found" if name == ".." else "job_not_found"
