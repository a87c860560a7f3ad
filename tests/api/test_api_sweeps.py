"""Sweeps over REST: submitted, looked at, listed, cancelled, and their best taken."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from retort.constants import MAP, Role
from retort.protocol.events import MetricEvent
from retort.settings import Settings
from support.api_harness import SPEC, SWEEP, Worker, serving

YAML = {"Content-Type": "application/yaml"}
TEMPERATURE = "distillation.losses.0.temperature"


def submit(client: TestClient, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/sweeps", json={**SWEEP, **more})
    assert answer.status_code == 202, answer.text
    sweep: dict[str, Any] = answer.json()
    return sweep


def score(parameters: dict[str, Any]) -> float:
    return 0.5 - abs(float(parameters[TEMPERATURE]) - 4) / 10


def test_a_submitted_sweep_says_where_to_look_and_has_no_trials_yet(client: TestClient):
    answer = client.post("/v1/sweeps", content=yaml.safe_dump(SWEEP), headers=YAML)

    sweep = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == sweep["links"]["self"] == f"/v1/sweeps/{sweep['id']}"
    assert (sweep["state"], sweep["strategy"], sweep["num_trials"], sweep["trials"]) == ("running", "grid", 6, [])
    assert set(sweep["counts"].values()) == {0}
    assert (sweep["best"], sweep["failure"], sweep["finished_at"]) == (None, None, None)
    assert client.get(answer.headers["Location"]).json() == sweep
    assert client.get("/v1/jobs").json()["data"] == []


def test_a_sweep_runs_to_its_end_and_its_best_spec_makes_an_equal_job(client: TestClient, worker: Worker):
    sweep_id = submit(client)["id"]

    worker.try_all(sweep_id, score)

    sweep = client.get(f"/v1/sweeps/{sweep_id}").json()
    assert (sweep["state"], sweep["counts"]["succeeded"], sweep["best"]["number"]) == ("succeeded", 6, 3)
    assert sweep["best"]["parameters"] == {TEMPERATURE: 4.0, "distillation.losses.0.weight": 0.7}
    assert [trial["value"] for trial in sweep["trials"]] == pytest.approx([0.3, 0.3, 0.5, 0.5, 0.2, 0.2])
    best = client.get(sweep["links"]["best"]).json()
    assert [loss["weight"] for loss in best["distillation"]["losses"]] == [0.7, 0.3]
    job = client.get(f"/v1/jobs/{sweep['best']['job_id']}").json()
    assert (job["sweep_id"], job["name"]) == (sweep_id, "kd-search-0003")
    assert client.post("/v1/jobs", json=best).json()["spec_digest"] == job["spec_digest"]


def test_trials_under_way_show_the_best_so_far_and_their_jobs_are_jobs_like_others(client: TestClient, worker: Worker):
    sweep_id = submit(client, concurrency=3)["id"]
    worker.sweep(sweep_id)
    lease = worker.claim(client.get(f"/v1/sweeps/{sweep_id}").json()["trials"][0]["job_id"])
    for n, value in ((1, 0.2), (2, 0.4), (3, 0.3)):
        worker.record(lease, MetricEvent(n=n, at=0, role=Role.STUDENT, step=n, values={MAP: value}))

    trials = client.get(f"/v1/sweeps/{sweep_id}").json()["trials"]

    told = [(trial["state"], trial["value"], trial["progress"]) for trial in trials]
    assert told == [("running", 0.4, 0.0), ("queued", None, 0.0), ("queued", None, 0.0)]
    jobs = client.get("/v1/jobs").json()["data"]
    assert {job["id"] for job in jobs} == {trial["job_id"] for trial in trials}


def test_owner_and_priority_are_those_of_all_its_jobs(client: TestClient, worker: Worker):
    sweep = client.post("/v1/sweeps?owner=lab&priority=7", json=SWEEP).json()
    worker.sweep(sweep["id"])

    assert (sweep["owner"], sweep["priority"]) == ("lab", 7)
    assert {(job["owner"], job["priority"]) for job in client.get("/v1/jobs").json()["data"]} == {("lab", 7)}


def test_the_same_key_and_sweep_answer_with_the_same_sweep(client: TestClient):
    key = {"Idempotency-Key": "k-1"}
    first = client.post("/v1/sweeps", json=SWEEP, headers=key)
    spelt_out = {**dict(reversed(SWEEP.items())), "objective": {"metric": "val/mAP50-95"}, "failures": 5}
    again = client.post("/v1/sweeps", content=yaml.safe_dump(spelt_out), headers={**key, **YAML})
    other = client.post("/v1/sweeps", json={**SWEEP, "concurrency": 5}, headers=key)
    job = client.post("/v1/jobs", json=SPEC, headers=key)

    assert "Idempotency-Replayed" not in first.headers
    assert (again.headers["Idempotency-Replayed"], again.json()["id"]) == ("true", first.json()["id"])
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (job.status_code, job.json()["code"]) == (422, "idempotency_key_reused"), "a key stands for one request"
    assert len(client.get("/v1/sweeps").json()["data"]) == 1


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"parameters": {"training.epohs": {"values": [1]}}}, "parameters.training.epohs"),
        ({"parameters": {TEMPERATURE: {"values": [4.0, -1.0]}}}, f"parameters.{TEMPERATURE}"),
        (
            {"parameters": {"distillation.losses.7.weight": {"values": [1.0]}}},
            "parameters.distillation.losses.7.weight",
        ),
        ({"base": {**SPEC, "control": "yes"}}, "base.control"),
        ({"search": {"strategy": "tpe"}}, "search.trials"),
        ({"parametres": {}}, "parametres"),
    ],
)
def test_a_wrong_sweep_is_refused_whole_with_the_place_of_the_mistake(
    small_client: TestClient, change: dict[str, Any], path: str
):
    answer = small_client.post("/v1/sweeps", json={**SWEEP, **change})

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_spec")
    assert answer.json()["errors"][0]["path"] == path
    assert small_client.get("/v1/sweeps").json()["data"] == []


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        (SWEEP["parameters"], "base.data.path"),
        ({"data.path": {"values": ["/elsewhere/a", "/elsewhere/b"]}}, "parameters.data.path"),
    ],
)
def test_data_outside_the_operators_folders_is_refused(small_settings: Settings, parameters: dict[str, Any], path: str):
    with serving(small_settings.model_copy(update={"data_dirs": (small_settings.home,)})) as client:
        base = {**SWEEP["base"], "data": {"path": "inside" if "data.path" in parameters else "/data"}}
        answer = client.post("/v1/sweeps", json={**SWEEP, "base": base, "parameters": parameters})

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, path)


def test_sweeps_are_listed_newest_first_page_by_page(client: TestClient, worker: Worker):
    ids = [submit(client)["id"] for _ in range(3)]
    worker.try_all(ids[0], score)

    first = client.get("/v1/sweeps?limit=2").json()
    rest = client.get(f"/v1/sweeps?limit=2&cursor={first['next_cursor']}").json()

    assert [sweep["id"] for sweep in (*first["data"], *rest["data"])] == ids[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    done = rest["data"][0]
    assert (done["state"], done["counts"]["succeeded"], done["best"]["number"]) == ("succeeded", 6, 3)
    assert "trials" not in done


def test_a_cancelled_sweep_takes_its_jobs_along_and_an_ended_one_stays_as_it_is(client: TestClient, worker: Worker):
    sweep_id, done = submit(client)["id"], submit(client)["id"]
    worker.sweep(sweep_id)
    worker.try_all(done, score)

    asked = client.post(f"/v1/sweeps/{sweep_id}/cancel")
    worker.sweep(sweep_id)
    again = client.post(f"/v1/sweeps/{sweep_id}/cancel")

    assert (asked.status_code, asked.json()["state"]) == (202, "cancelling")
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    assert [trial["state"] for trial in again.json()["trials"]] == ["cancelled"] * 2
    refused = client.post(f"/v1/sweeps/{done}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "sweep_already_finished")


def test_a_sweep_without_a_success_has_no_best_spec_but_a_page(client: TestClient):
    links = submit(client)["links"]

    refused = client.get(links["best"])
    page = client.get(links["report"])

    assert (refused.status_code, refused.json()["code"]) == (409, "no_trial_succeeded")
    assert page.status_code == 200
    assert "none has succeeded yet" in page.text


def test_the_page_is_sent_in_a_sandbox_and_shows_the_best_spec(client: TestClient, worker: Worker):
    sweep = submit(client)
    worker.try_all(sweep["id"], score)

    page = client.get(sweep["links"]["report"])

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-downloads; default-src 'none'; style-src 'sha256-")
    assert ("unsafe" in policy, "<script" in page.text, " style=" in page.text) == (False, False, False)
    assert "name: kd-search-0003" in page.text
    assert len(page.content) < 100_000
    assert client.get(sweep["links"]["report"], params={"self_contained": True}).content == page.content
    assert client.head(sweep["links"]["report"]).status_code == 200


@pytest.mark.parametrize("sweep_id", ["swp_0", "job_" + "0" * 32, "swp_" + "0" * 32])
def test_a_sweep_that_is_not_there_is_said_to_be_missing(small_client: TestClient, sweep_id: str):
    for answer in (
        small_client.get(f"/v1/sweeps/{sweep_id}"),
        small_client.get(f"/v1/sweeps/{sweep_id}/best"),
        small_client.get(f"/v1/sweeps/{sweep_id}/report"),
        small_client.post(f"/v1/sweeps/{sweep_id}/cancel"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "sweep_not_found")


def test_the_schema_of_a_sweep_is_served_beside_the_specs(small_client: TestClient):
    answer = small_client.get("/v1/schema/sweep")

    assert answer.headers["Content-Type"] == "application/schema+json"
    assert (
        answer.json()["$defs"]["JobSpec"]["properties"].keys()
        == small_client.get("/v1/schema").json()["properties"].keys()
    )
