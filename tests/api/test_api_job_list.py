"""Jobs are found by what they are: filters, search, orders, labels; many are acted on at once; one is waited for."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient
from results import RESULT, trained_for
from retort.access import Principal
from retort.constants import MAP, Role
from retort.protocol.events import MetricEvent
from retort.settings import Settings
from support.api_harness import SPEC, Worker, serving


def submit(client: TestClient, name: str = "first", *, labels: tuple[str, ...] = (), **spec: Any) -> str:
    answer = client.post("/v1/jobs", params={"label": list(labels)}, json={**SPEC, "name": name, **spec})
    assert answer.status_code == 202, answer.text
    found: str = answer.json()["id"]
    return found


def names(client: TestClient, **query: Any) -> list[str]:
    answer = client.get("/v1/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["name"] for job in answer.json()["data"]]


ALL = ["gamma_x", "beta", "alpha"]


@pytest.fixture
def three(client: TestClient) -> tuple[str, str, str]:
    return (
        submit(client, "alpha", labels=("site=north", "run=7"), student={"model": "yolo11n"}),
        submit(client, "beta", labels=("site=south",), teacher={"weights": "yolo11x.pt"}),
        submit(client, "gamma_x", data={"dataset": "coco128"}, distillation={"recipe": "article"}),
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"name": "beta"}, ["beta"]),
        ({"label": "site"}, ["beta", "alpha"]),
        ({"label": ["site=north", "run=7"]}, ["alpha"]),
        ({"label": ["site=north", "run=8"]}, []),
        ({"student": "yolo11n"}, ["alpha"]),
        ({"teacher": "yolo11x.pt"}, ["beta"]),
        ({"dataset": "coco128"}, ["gamma_x"]),
        ({"dataset": "/data/digits", "recipe": "balanced"}, ["beta", "alpha"]),
        ({"recipe": "article"}, ["gamma_x"]),
        ({"q": "NORTH alp"}, ["alpha"]),
        ({"q": "a_x"}, ["gamma_x"]),
        ({"q": "%"}, []),
        ({"created_before": "2001-01-01T00:00:00Z"}, []),
        (
            {"created_after": "2001-01-01T00:00:00Z", "state": "queued", "owner": "default"},
            ["gamma_x", "beta", "alpha"],
        ),
        ({"sweep": "swp_none"}, []),
        ({"order": "name"}, ["alpha", "beta", "gamma_x"]),
        ({"order": "created", "limit": 2}, ["alpha", "beta"]),
    ],
)
def test_a_list_holds_the_jobs_that_meet_every_filter(
    client: TestClient, three: tuple[str, str, str], query: dict[str, Any], found: list[str]
):
    assert three
    assert names(client, **query) == found


def best(worker: Worker, job_id: str, value: float) -> None:
    worker.record(
        worker.claim(job_id), MetricEvent(n=1, at=0, role=Role.STUDENT, step=1, values={MAP: value})
    )  # fmt: skip


@pytest.mark.parametrize("order", ["created", "-created", "name", "-name", "best", "-best", "finished", "-finished"])
def test_pages_in_any_order_hold_every_job_once(
    client: TestClient, worker: Worker, three: tuple[str, str, str], order: str
):
    best(worker, three[0], 0.25)
    best(worker, three[2], 0.5)
    client.post(f"/v1/jobs/{three[1]}/cancel")
    seen: list[str] = []
    address: str | None = f"/v1/jobs?limit=1&order={order}"
    while address is not None:
        answer = client.get(address)
        seen += [job["name"] for job in answer.json()["data"]]
        address = answer.headers["Link"][1:].partition(">")[0] if "Link" in answer.headers else None

    assert sorted(seen) == ["alpha", "beta", "gamma_x"]
    expected = {
        "created": ["alpha", "beta", "gamma_x"], "name": ["alpha", "beta", "gamma_x"],
        "best": ["alpha", "gamma_x", "beta"], "-best": ["gamma_x", "alpha", "beta"],
        "finished": ["beta"], "-finished": ["beta"],
    }  # fmt: skip
    wanted = expected.get(order) or expected[order[1:]][::-1]
    assert seen[: len(wanted)] == wanted


@pytest.mark.parametrize("change", [{"order": "name"}, {"order": "best"}, {"q": "b"}, {"state": "queued"}], ids=str)
def test_a_cursor_of_another_list_is_refused(client: TestClient, three: tuple[str, str, str], change: dict[str, str]):
    assert three
    cursor = client.get("/v1/jobs", params={"limit": 1}).json()["next_cursor"]
    refused = client.get("/v1/jobs", params={"limit": 1, "cursor": cursor, **change})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")


def test_labels_are_set_and_removed_and_name_and_priority_changed_together(client: TestClient):
    job_id = submit(client, labels=("site=north", "run=7"))
    change = {"labels": {"run": None, "shift": "late"}, "name": "renamed", "priority": 3}
    changed = client.patch(f"/v1/jobs/{job_id}", json=change).json()

    assert (changed["name"], changed["priority"]) == ("renamed", 3)
    assert changed["labels"] == {"site": "north", "shift": "late"}
    assert names(client, q="late renamed") == ["renamed"]
    assert client.post(f"/v1/jobs/{job_id}/clone").json()["labels"] == changed["labels"]


def test_a_job_that_has_ended_is_still_labelled(client: TestClient, job_id: str):
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert client.patch(f"/v1/jobs/{job_id}", json={"labels": {"a": "b"}}).json()["labels"] == {"a": "b"}
    refused = client.patch(f"/v1/jobs/{job_id}", json={"labels": {"c": "d"}, "priority": 1})
    assert refused.json()["code"] == "job_already_finished"
    assert client.get(f"/v1/jobs/{job_id}").json()["labels"] == {"a": "b"}


def test_of_two_changes_to_what_was_seen_the_second_is_refused(client: TestClient, job_id: str):
    seen = client.get(f"/v1/jobs/{job_id}").headers["ETag"]
    first = client.patch(f"/v1/jobs/{job_id}", json={"labels": {"a": "1"}}, headers={"If-Match": seen})
    second = client.patch(f"/v1/jobs/{job_id}", json={"labels": {"a": "2"}}, headers={"If-Match": seen})

    assert first.status_code == 200
    assert (second.status_code, second.json()["code"]) == (412, "version_conflict")
    weak = client.patch(f"/v1/jobs/{job_id}", json={"priority": 1}, headers={"If-Match": f"W/{first.headers['ETag']}"})
    assert weak.status_code == 412


@pytest.mark.parametrize("label", ["", "=x", "a b=c", "x=\n", "-a=b", "a" * 64 + "=b"])
def test_a_label_that_is_none_is_refused(client: TestClient, label: str):
    assert client.post("/v1/jobs", params={"label": label}, json=SPEC).json()["code"] == "bad_parameter"


def test_a_job_has_a_bounded_number_of_labels(client: TestClient, job_id: str):
    for start in (0, 20):
        labels = {f"k{number}": "v" for number in range(start, start + 20)}
        answer = client.patch(f"/v1/jobs/{job_id}", json={"labels": labels})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")
    assert len(client.get(f"/v1/jobs/{job_id}").json()["labels"]) == 20


def test_many_jobs_are_cancelled_and_each_is_answered_for_itself(client: TestClient, three: tuple[str, str, str]):
    unknown = "job_" + "0" * 32
    body = {"action": "cancel", "ids": [three[0], unknown, "nonsense", three[1]]}
    answer = client.post("/v1/bulk", json=body).json()

    told = [(outcome["id"], outcome["done"], outcome["state"], outcome["code"]) for outcome in answer["data"]]
    assert told == [
        (three[0], True, "cancelled", None), (unknown, False, None, "job_not_found"),
        ("nonsense", False, None, "job_not_found"), (three[1], True, "cancelled", None),
    ]  # fmt: skip
    assert names(client, state="queued") == ["gamma_x"]


def test_a_filter_chooses_what_is_acted_on_and_a_repeated_retry_makes_no_second_job(
    client: TestClient, three: tuple[str, str, str]
):
    cancelled = client.post("/v1/bulk", json={"action": "cancel", "filter": {"labels": {"site": None}}}).json()
    assert {outcome["id"] for outcome in cancelled["data"]} == set(three[:2])
    body, headers = {"action": "retry", "filter": {"labels": {"site": None}}}, {"Idempotency-Key": "again"}
    first = client.post("/v1/bulk", json=body, headers=headers).json()["data"]
    second = client.post("/v1/bulk", json=body, headers=headers).json()["data"]
    assert len(first) == 2
    assert first == second


def test_ended_jobs_are_deleted_and_running_ones_refuse(client: TestClient, three: tuple[str, str, str]):
    client.post(f"/v1/jobs/{three[0]}/cancel")
    answer = client.post("/v1/bulk", json={"action": "delete", "ids": list(three)}).json()["data"]
    assert [(one["done"], one["code"]) for one in answer] == [
        (True, None),
        (False, "wrong_state"),
        (False, "wrong_state"),
    ]
    assert names(client) == ["gamma_x", "beta"]
    assert client.post("/v1/bulk", json={"action": "delete", "filter": {}}).json()["data"] == []


def test_a_time_that_is_a_number_is_refused(small_client: TestClient):
    body = {"action": "cancel", "filter": {"created_before": 0}}
    assert small_client.post("/v1/bulk", json=body).json()["code"] == "bad_parameter"
    body = {"action": "cancel", "filter": {"created_before": "2001-01-01T00:00:00Z"}}
    assert small_client.post("/v1/bulk", json=body).json()["data"] == []


def test_an_action_takes_no_more_than_a_hundred_jobs(client: TestClient):
    body = {"action": "cancel", "ids": ["job_" + f"{number:032x}" for number in range(101)]}
    assert client.post("/v1/bulk", json=body).json()["code"] == "bad_parameter"


def test_a_dry_run_queues_nothing_and_tells_what_the_job_would_be(client: TestClient):
    for answer in (client.post("/v1/validate", json=SPEC), client.post("/v1/jobs?dry_run=true", json=SPEC)):
        told = answer.json()
        assert (answer.status_code, told["valid"], told["spec"]["training"]["epochs"]) == (200, True, 100)
        assert (told["estimate"]["time"], told["estimate"]["memory"]) == ([], None)
        assert "nothing is known" in told["estimate"]["source"]
    assert names(client) == []


def test_a_spec_that_would_be_refused_is_refused_when_it_is_validated(client: TestClient):
    bad = {**SPEC, "training": {"epochs": 0}}
    for address in ("/v1/validate", "/v1/jobs?dry_run=true"):
        answer = client.post(address, json=bad)
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "training.epochs")


def test_an_estimate_comes_from_recorded_jobs_with_the_same_work(client: TestClient, worker: Worker):
    for epochs in (2, 4):
        job_id = submit(client, training={"epochs": epochs})
        worker.succeed(worker.claim(job_id), trained_for(epochs).model_copy(update={"duration_s": 10.0 * epochs}))
    other = submit(client, student={"model": "yolo11n"})
    worker.succeed(worker.claim(other), RESULT.model_copy(update={"duration_s": 9999.0}))
    (time_,) = client.post("/v1/validate", json={**SPEC, "training": {"epochs": 8}}).json()["estimate"]["time"]

    assert (time_["seconds"], time_["low"], time_["high"]) == (80.0, 80.0, 80.0)
    assert (time_["sure"], time_["num_jobs"], time_["cost"]) == ("scaled", 2, None)


def test_an_estimate_has_a_cost_where_the_operator_names_a_price(small_settings: Settings, tmp_path: Any):
    priced = small_settings.model_copy(update={"gpu_hour_price": 3.6, "currency": "CHF"})
    with serving(priced) as client:
        from retort.storage import Store

        worker = Worker(client.app.state.service.database, Store(priced.store_url), tmp_path)  # type: ignore[attr-defined]
        found = trained_for(100).model_copy(update={"duration_s": 1000.0, "device": "NVIDIA H100"})
        worker.succeed(worker.claim(submit(client)), found)
        estimate = client.post("/v1/validate", json=SPEC).json()["estimate"]
    assert (estimate["time"][0]["cost"], estimate["currency"], estimate["time"][0]["sure"]) == (1.0, "CHF", "one")


def test_whoever_waits_for_a_job_is_answered_when_it_ends(client: TestClient, job_id: str):
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(client.get(f"/v1/jobs/{job_id}", params={"wait": 30})))
    began = time.monotonic()
    waiting.start()
    client.post(f"/v1/jobs/{job_id}/cancel")
    waiting.join(20)

    assert answers[0].json()["state"] == "cancelled"
    assert time.monotonic() - began < 15


def test_whoever_waits_with_a_version_is_answered_when_it_changes(client: TestClient, job_id: str):
    seen = client.get(f"/v1/jobs/{job_id}").headers["ETag"]
    unchanged = client.get(f"/v1/jobs/{job_id}", params={"wait": 0.1}, headers={"If-None-Match": seen})
    assert unchanged.status_code == 304
    client.patch(f"/v1/jobs/{job_id}", json={"priority": 4})
    changed = client.get(f"/v1/jobs/{job_id}", params={"wait": 30}, headers={"If-None-Match": seen})
    assert changed.json()["priority"] == 4


def test_those_who_wait_share_their_looks_at_the_database(client: TestClient, job_id: str):
    import anyio
    from retort_api.routes.jobs import _standing

    service = client.app.state.service  # type: ignore[attr-defined]
    looks: list[int] = []
    work = service.versions._work
    service.versions._work = lambda ids: (looks.append(len(ids)), work(ids))[1]

    async def wait_together() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(_standing, service, Principal.of_this_machine(), job_id, None, 1.2)

    anyio.run(wait_together)
    assert sum(looks) >= 400  # each has looked more than once
    assert len(looks) <= 12


def test_a_validation_says_which_quotas_would_refuse_the_job_now_and_when_there_is_room(client: TestClient):
    assert client.post("/v1/validate", json=SPEC).json()["used_up"] == []
    limits = {"queued_jobs": 0, "gpu_hours": 0, "stored_bytes": 0}
    client.put("/v1/projects/default/quota", json=limits)
    for address in ("/v1/validate", "/v1/jobs?dry_run=true"):
        told = client.post(address, json=SPEC).json()
        assert told["valid"]
        quotas = {one["quota"]: one for one in told["used_up"]}
        assert quotas.keys() == {"queued jobs", "GPU hours of this month", "stored bytes"}
        assert all(one["retry_after_s"] > 0 and one["hint"] for one in quotas.values())
        assert "0 of 0" in quotas["queued jobs"]["detail"]
    refused = client.post("/v1/jobs", json=SPEC)
    assert (refused.status_code, refused.json()["detail"]) == (429, quotas["queued jobs"]["detail"])


@pytest.mark.parametrize("query", ["sort=key_hash", "sort=owner.password", "key_hash=a", "owner__hash=a", "filter=1=1"])
def test_no_filter_and_no_order_reaches_what_is_not_listed(small_client: TestClient, query: str):
    answer = small_client.get(f"/v1/jobs?{query}")
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] == "bad_parameter"
