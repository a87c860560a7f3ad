"""Webhooks are made, changed, tried and deleted; a secret is told once; addresses are checked."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.db import Database, webhooks
from retort.db.session import database_now

NEW = {"url": "https://93.184.215.14/hook", "events": ["job.failed", "job.succeeded"]}


def made(client: TestClient, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={**NEW, **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_secret_is_told_when_it_is_made_and_never_again(small_client: TestClient):
    webhook = made(small_client, description="on call")
    assert webhook["secret"].startswith("whsec_")
    home = f"/v1/webhooks/{webhook['id']}"
    shown = small_client.get(home).json()
    assert (shown["secret"], shown["events"], shown["description"]) == (None, NEW["events"], "on call")
    assert [one["secret"] for one in small_client.get("/v1/webhooks").json()["data"]] == [None]
    rotated = small_client.post(f"{home}/rotate").json()["secret"]
    assert rotated.startswith("whsec_")
    assert rotated != webhook["secret"]


def test_a_webhook_is_changed_and_deleted(small_client: TestClient):
    home = f"/v1/webhooks/{made(small_client)['id']}"
    changed = small_client.patch(home, json={"enabled": False, "events": ["job.started"]}).json()
    assert (changed["enabled"], changed["events"], changed["url"]) == (False, ["job.started"], NEW["url"])
    assert small_client.delete(home).status_code == 204
    assert small_client.get(home).json()["code"] == "webhook_not_found"
    assert small_client.delete(home).json()["code"] == "webhook_not_found"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://127.0.0.1/", "bad_address"), ("https://10.1.2.3/", "bad_address"),
        ("http://93.184.215.14/", "bad_address"), ("https://user:pw@example.com/", "bad_address"),
        ("https://0x7f000001/", "bad_address"), ("file:///etc/passwd", "bad_parameter"),
        ("gopher://93.184.215.14/", "bad_parameter"), ("https://[::1]/", "bad_address"), ("x", "bad_parameter"),
    ],
)  # fmt: skip
def test_an_address_that_no_worker_would_reach_is_refused(small_client: TestClient, url: str, code: str):
    refused = small_client.post("/v1/webhooks", json={**NEW, "url": url})
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    home = f"/v1/webhooks/{made(small_client)['id']}"
    assert small_client.patch(home, json={"url": url}).json()["code"] == code


@pytest.mark.parametrize("wrong", [{"events": []}, {"events": ["job.nothing"]}, {"secret": "x"}])
def test_a_webhook_that_would_hear_nothing_is_refused(small_client: TestClient, wrong: dict[str, Any]):
    assert small_client.post("/v1/webhooks", json={**NEW, **wrong}).json()["code"] == "bad_parameter"


def test_a_project_has_a_bounded_number_of_webhooks(small_client: TestClient):
    for _ in range(20):
        made(small_client)
    assert small_client.post("/v1/webhooks", json=NEW).json()["code"] == "too_many_webhooks"


def test_a_test_call_stands_in_the_log_of_deliveries(client: TestClient):
    home = f"/v1/webhooks/{made(client)['id']}"
    tried = [client.post(f"{home}/test").json()["id"] for _ in range(2)]
    page = client.get(f"{home}/deliveries", params={"limit": 1}).json()
    rest = client.get(f"{home}/deliveries", params={"cursor": page["next_cursor"]}).json()
    assert [one["id"] for one in (*page["data"], *rest["data"])] == tried[::-1]
    assert (page["data"][0]["state"], page["data"][0]["payload"]["type"]) == ("pending", "webhook.test")


@pytest.mark.parametrize(("status", "ended"), [(204, "delivered"), (410, "failed")])
def test_a_delivery_that_has_ended_is_sent_again_as_it_was_and_the_audit_log_says_who_wished_it(
    client: TestClient, database: Database, status: int, ended: str
):
    home = f"/v1/webhooks/{made(client)['id']}"
    sent = client.post(f"{home}/test").json()
    again = f"{home}/deliveries/{sent['id']}/redeliver"
    assert client.post(again).json() == sent, "it still waits"
    for _ in range(2):
        client.patch(home, json={"enabled": True})
        with database.begin() as session:
            [due] = webhooks.take(session, now=database_now(session), hold_s=9.0, limit=9)
            webhooks.record(session, due, webhooks.Answer(status, None, 12.0), now=database_now(session))
        [before] = client.get(f"{home}/deliveries").json()["data"]
        assert (before["state"], before["attempts"]) == (ended, 1)
        answer = client.post(again)
        assert answer.status_code == 202
        found = answer.json()
        assert (found["state"], found["attempts"], found["ended_at"]) == ("pending", 0, None)
        assert (found["id"], found["payload"]) == (sent["id"], sent["payload"])
    entry = client.get("/v1/audit", params={"action": "redeliver"}).json()["data"][0]
    assert (entry["outcome"], entry["target"].count(sent["id"])) == ("done", 1), entry


def test_a_delivery_that_is_not_there_is_no_delivery_of_another_webhook(client: TestClient):
    one, other = (f"/v1/webhooks/{made(client)['id']}" for _ in range(2))
    theirs = client.post(f"{other}/test").json()["id"]
    for name in (theirs, f"msg_{0:032x}"):
        refused = client.post(f"{one}/deliveries/{name}/redeliver")
        assert (refused.status_code, refused.json()["code"]) == (404, "delivery_not_found")
    assert client.post(f"{one}/deliveries/x/redeliver").json()["code"] == "bad_parameter"


@pytest.mark.parametrize("wrong", ["false", "no", 0, 1, "", []])
def test_whether_a_webhook_is_enabled_is_a_boolean_and_nothing_that_looks_like_one(
    small_client: TestClient, wrong: object
):
    home = f"/v1/webhooks/{made(small_client)['id']}"
    refused = small_client.patch(home, json={"enabled": wrong})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
    assert small_client.get(home).json()["enabled"] is True
