"""Events, the stream of them, and curves."""

from __future__ import annotations

import json
import threading
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from results import RESULT
from retort.constants import Role
from retort.db import Database, Lease
from retort.protocol.events import LogEvent, MetricEvent
from retort_api.routes.events import BATCH, EventStream
from support.api_harness import Worker


def logs(first: int, last: int) -> list[LogEvent]:
    return [LogEvent(n=n, at=float(n), message=f"line {n}") for n in range(first, last + 1)]


def read(text: str) -> list[dict[str, Any]]:
    """Parse server-sent events as a browser does."""
    messages = []
    for block in text.split("\n\n"):
        fields = [line.partition(": ") for line in block.splitlines() if line and not line.startswith(":")]
        message = {name: value for name, _, value in fields}
        if "data" in message:
            messages.append({**message, "data": json.loads(message["data"])})
    return messages


def test_events_are_paged_in_order_without_gaps(client: TestClient, worker: Worker, lease: Lease) -> None:
    worker.record(lease, *logs(1, 7))

    seen, after, more = [], 0, True
    while more:
        page = client.get(f"/v1/jobs/{lease.job_id}/events?after={after}&limit=4").json()
        seen += page["data"]
        after, more = page["next_after"], page["has_more"]

    assert [event["seq"] for event in seen] == list(range(1, 10))
    assert [event["type"] for event in seen] == ["state", "state", *["log"] * 7]
    assert seen[-1] == {
        "seq": 9, "type": "log", "level": "info", "message": "line 7", "data": {}, "attempt": 1,
        "at": "1970-01-01T00:00:07Z",
    }  # fmt: skip
    assert client.get(f"/v1/jobs/{lease.job_id}/events?after={after}").json() == {
        "data": [], "next_after": 9, "has_more": False,
    }  # fmt: skip


def test_a_wrong_place_in_the_events_is_refused(client: TestClient, job_id: str) -> None:
    for query in ["after=-1", "after=x", f"after={2**63}", "limit=0", "limit=1001", "afer=1"]:
        assert client.get(f"/v1/jobs/{job_id}/events?{query}").json()["code"] == "bad_parameter", query


def test_a_stream_sends_everything_and_then_the_end(client: TestClient, worker: Worker, lease: Lease) -> None:
    worker.record(lease, *logs(1, BATCH))  # more than one look finds
    worker.succeed(lease, RESULT)

    answer = client.get(f"/v1/jobs/{lease.job_id}/stream")

    messages = read(answer.text)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert [message["id"] for message in messages[:-1]] == [str(seq) for seq in range(1, BATCH + 4)]
    assert all(message["event"] == message["data"]["type"] for message in messages[:-1])
    assert messages[-1] == {"event": "end", "data": {"state": "succeeded"}}


def test_a_stream_goes_on_behind_the_last_event_received(client: TestClient, worker: Worker, lease: Lease) -> None:
    worker.record(lease, *logs(1, 3))
    worker.succeed(lease, RESULT)
    address = f"/v1/jobs/{lease.job_id}/stream"

    def ids(query: str = "", **headers: str) -> list[str]:
        return [message["id"] for message in read(client.get(address + query, headers=headers).text)[:-1]]

    assert ids("?after=4") == ["5", "6"]
    assert ids("?after=1", **{"Last-Event-ID": "5"}) == ["6"]
    assert ids(**{"Last-Event-ID": "6"}) == []
    assert client.get(address, headers={"Last-Event-ID": "latest"}).json()["code"] == "bad_parameter"
    assert client.get(address, headers={"Last-Event-ID": "9" * 20}).json()["code"] == "bad_parameter"


def test_a_stream_does_not_answer_to_head(client: TestClient, job_id: str) -> None:
    answer = client.head(f"/v1/jobs/{job_id}/stream")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


def test_an_idle_stream_is_kept_alive(client: TestClient, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.02)  # 15 s, as it comes
    end = threading.Timer(1, lambda: client.post(f"/v1/jobs/{job_id}/cancel"))
    end.start()

    text = client.get(f"/v1/jobs/{job_id}/stream").text

    end.join()
    # One may come before the first event too, where the database takes its time.
    assert "\n: ping\n" in text[text.index("queued") : text.index("event: end")]


def test_a_live_stream_tells_what_happens_while_it_is_open(database: Database, worker: Worker, lease: Lease) -> None:
    follower = EventStream(database, lease.job_id, 2, threading.Event(), every_s=0.01)

    async def follow() -> list[str | None]:
        seen = []
        async for message in follower.messages():
            seen.append(message.event)
            if message.event is None:
                await anyio.to_thread.run_sync(worker.record, lease, *logs(1, 1))
            elif message.event == "log":
                await anyio.to_thread.run_sync(worker.succeed, lease, RESULT)
        return seen

    assert anyio.run(follow) == [None, "log", "state", "end"]


def test_a_stream_without_news_holds_no_connection(client: TestClient, app: FastAPI, lease: Lease) -> None:
    pool = app.state.service.database.engine.pool
    follower = EventStream(app.state.service.database, lease.job_id, 0, threading.Event(), every_s=60)

    async def wait_for_news() -> int:
        messages = follower.messages()
        for _ in range(3):  # the greeting and the two events there are
            await anext(messages)
        with anyio.move_on_after(0.05):
            await anext(messages)
        held: int = pool.checkedout()
        return held

    assert client.get("/livez").status_code == 200
    assert anyio.run(wait_for_news) == 0


def test_an_old_stream_ends_without_an_end_so_that_the_client_comes_back(database: Database, lease: Lease) -> None:
    follower = EventStream(database, lease.job_id, 0, threading.Event(), every_s=0.01, max_age_s=0.1)

    async def follow() -> list[str | None]:
        return [message.event async for message in follower.messages()]

    assert anyio.run(follow) == [None, "state", "state"]


def test_curves_are_told_by_role_and_name(client: TestClient, worker: Worker, lease: Lease) -> None:
    worker.record(
        lease,
        MetricEvent(n=1, at=1.0, role=Role.STUDENT, step=1, values={"train/loss": 3.0, "val/mAP50": None}),
        MetricEvent(n=2, at=2.0, role=Role.STUDENT, step=2, values={"train/loss": 2.0, "val/mAP50": 0.5}),
        MetricEvent(n=3, at=3.0, role=Role.CONTROL, step=1, values={"train/loss": 4.0}),
    )

    def curves(query: str = "") -> dict[tuple[str, str], list[tuple[int, float | None]]]:
        found = client.get(f"/v1/jobs/{lease.job_id}/metrics{query}").json()["data"]
        return {(c["role"], c["name"]): [(p["step"], p["value"]) for p in c["points"]] for c in found}

    assert curves() == {
        ("student", "train/loss"): [(1, 3.0), (2, 2.0)],
        ("student", "val/mAP50"): [(1, None), (2, 0.5)],
        ("control", "train/loss"): [(1, 4.0)],
    }
    assert set(curves("?role=control")) == {("control", "train/loss")}
    assert curves("?role=student&name=train/loss&after_step=1") == {("student", "train/loss"): [(2, 2.0)]}
    assert curves("?name=val/mAP50&limit=1") == {("student", "val/mAP50"): [(1, None)]}
    assert curves("?name=unknown") == {}


def test_a_wrong_choice_of_curves_is_refused(client: TestClient, job_id: str) -> None:
    for query in ["role=janitor", "name=%00", "limit=0", "after_step=x"]:
        assert client.get(f"/v1/jobs/{job_id}/metrics?{query}").json()["code"] == "bad_parameter", query
