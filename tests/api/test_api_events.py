"""Events, the stream of them, and curves."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from results import RESULT
from retort.constants import Role
from retort.db import Database, Lease
from retort.protocol.events import LogEvent, MetricEvent
from retort.settings import Settings
from retort_api.streams import BATCH, EventStream, StreamHub, TooManyStreams
from support.api_harness import SPEC, Worker, serving


def logs(first: int, last: int) -> list[LogEvent]:
    return [LogEvent(n=n, at=float(n), message=f"line {n}") for n in range(first, last + 1)]


def hub(database: Database, every_s: float = 0.01, **limits: int) -> StreamHub:
    return StreamHub(database, threading.Event(), every_s=every_s, **limits)


async def until(look: Callable[[], bool]) -> None:
    """Return once *look* is true."""
    with anyio.fail_after(20):
        for _ in itertools.takewhile(lambda _: not look(), itertools.count()):
            await anyio.sleep(0.01)


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
    follower = EventStream(hub(database), lease.job_id, 2)

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
    follower = EventStream(hub(app.state.service.database, every_s=60), lease.job_id, 0)

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
    follower = EventStream(hub(database), lease.job_id, 0, max_age_s=0.1)

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


def test_a_stream_that_is_opened_again_behind_the_end_is_answered_by_nothing(
    client: TestClient, worker: Worker, lease: Lease
) -> None:
    address = f"/v1/jobs/{lease.job_id}/stream"
    worker.succeed(lease, RESULT)
    messages = read(client.get(address).text)

    again = client.get(address, headers={"Last-Event-ID": messages[-2]["id"]})

    assert (again.status_code, again.content) == (204, b"")
    assert client.get(address, headers={"Last-Event-ID": "1"}).status_code == 200


def test_all_who_follow_share_one_look_at_the_database(database: Database, worker: Worker, lease: Lease) -> None:
    shared = hub(database, every_s=0.05)
    behind: list[int] = []

    class Counted(EventStream):
        def _behind(self) -> Any:
            behind.append(1)
            return super()._behind()

    async def follow(seen: list[list[str | None]]) -> None:
        mine: list[str | None] = []
        seen.append(mine)
        mine.extend([message.event async for message in Counted(shared, lease.job_id, 2).messages()])

    async def main() -> list[list[str | None]]:
        seen: list[list[str | None]] = []
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(follow, seen)
            await until(lambda: len(behind) == 50 and shared.looks >= 3)
            begun = shared.looks
            await anyio.to_thread.run_sync(worker.record, lease, *logs(1, 3))
            await anyio.to_thread.run_sync(worker.succeed, lease, RESULT)
        assert shared.looks - begun <= 4, "looks for news do not grow with the listeners"
        return seen

    assert anyio.run(main) == [[None, "log", "log", "log", "state", "end"]] * 50
    assert len(behind) == 50, "each has looked once for itself, to find its place"


def test_a_reader_far_behind_misses_nothing(database: Database, worker: Worker, lease: Lease) -> None:
    shared = hub(database)

    async def main() -> list[str | None]:
        slow, seen = EventStream(shared, lease.job_id, 2), []
        messages = slow.messages()
        await anext(messages)
        pending = asyncio.ensure_future(anext(messages))
        await until(lambda: shared.looks > 0)
        await anyio.to_thread.run_sync(worker.record, lease, *logs(1, 1))
        seen.append((await pending).id)
        with shared.channel(lease.job_id, 0) as channel:  # somebody else keeps the job watched
            for first in range(2, 1002, 250):
                await anyio.to_thread.run_sync(worker.record, lease, *logs(first, first + 249))
            await anyio.to_thread.run_sync(worker.succeed, lease, RESULT)
            await until(lambda: channel.reached is not None and channel.seq > 1000)
            seen += [message.id async for message in messages]
        return seen

    assert anyio.run(main) == [*(str(n) for n in range(3, 1005)), None]


def test_streams_at_a_time_are_bounded_for_each_and_for_all(database: Database) -> None:
    shared = hub(database, most=3, most_each=2)

    with shared.admitted("ann"), shared.admitted("ann"):
        with pytest.raises(TooManyStreams, match="you follow 2 jobs"), shared.admitted("ann"):
            pass
        with shared.admitted("ben"), pytest.raises(TooManyStreams, match="as many streams"), shared.admitted("eve"):
            pass
    with shared.admitted("ann"):
        pass


def test_a_stream_too_many_is_told_when_to_come_again(small_settings: Settings) -> None:
    with serving(small_settings.model_copy(update={"max_streams_each": 0})) as client:
        job_id = client.post("/v1/jobs", json=SPEC).json()["id"]
        answer = client.get(f"/v1/jobs/{job_id}/stream")

    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (429, "too_many_streams", True)
    assert int(answer.headers["Retry-After"]) > 0
