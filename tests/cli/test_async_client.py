"""The asynchronous client makes the requests of the other one; both repeat only what is safe to repeat."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from retort.client import AsyncClient, Client, ClientError
from retort.client.calls import Call
from retort.client.repeats import Repeats, is_repeatable
from support.api_harness import SPEC, listening
from support.identity import OPERATOR

LOST = httpx.ReadError("lost")


class Answers:
    """A transport that answers one thing after the other, and keeps what it was asked."""

    def __init__(self, *answers: int | Exception | tuple[int, dict[str, str]]) -> None:
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        return httpx.Response(status, headers=headers, json={"data": [], "id": "job_1"})

    async def later(self, request: httpx.Request) -> httpx.Response:
        return self(request)


def sync_call(answers: Answers, do: Callable[[Client], Any]) -> Any:
    with Client("http://127.0.0.1:1", key=OPERATOR) as client:
        client._http = httpx.Client(base_url=client.url, transport=httpx.MockTransport(answers))
        return do(client)


def async_call(answers: Answers, do: Callable[[AsyncClient], Any]) -> Any:
    async def call() -> Any:
        async with AsyncClient("http://127.0.0.1:1", key=OPERATOR) as client:
            client._http = httpx.AsyncClient(base_url=client.url, transport=httpx.MockTransport(answers.later))
            return await do(client)

    return anyio.run(call)


@pytest.fixture(params=[sync_call, async_call], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_submission_whose_answer_was_lost_is_sent_again_under_the_same_key(call: Any):
    answers = Answers(LOST, 503, 202)
    call(answers, lambda client: client.submit(SPEC))
    keys = {request.headers["Idempotency-Key"] for request in answers.seen}
    assert (len(answers.seen), len(keys)) == (3, 1)


@pytest.mark.parametrize("what", ["get", "cancel", "validate", "artifacts", "priority"])
def test_what_is_harmless_to_repeat_is_repeated(call: Any, what: str):
    does: dict[str, Callable[[Any], Any]] = {
        "get": lambda client: client.get("job_1"), "cancel": lambda client: client.cancel("job_1"),
        "validate": lambda client: client.validate(SPEC), "artifacts": lambda client: client.artifacts("job_1"),
        "priority": lambda client: client.change("job_1", priority=3),
    }  # fmt: skip
    answers = Answers(LOST, 200)
    call(answers, does[what])
    assert len(answers.seen) == 2


def test_a_change_of_one_version_is_not_repeated_when_its_answer_is_lost(call: Any):
    answers = Answers(LOST, 412)
    with pytest.raises(ClientError) as told:
        call(answers, lambda client: client.change("job_1", priority=3, version='"1"'))
    assert (told.value.code, len(answers.seen)) == ("unreachable", 1)


def test_a_new_webhook_is_not_made_twice(call: Any):
    answers = Answers(LOST, 201)
    with pytest.raises(ClientError):
        call(answers, lambda client: client.webhooks.create("https://example.com/", ["job.failed"]))
    assert len(answers.seen) == 1
    unsent = Answers(httpx.ConnectError("no"), 201)
    call(unsent, lambda client: client.webhooks.create("https://example.com/", ["job.failed"]))
    assert len(unsent.seen) == 2


def test_too_many_requests_are_repeated_when_the_service_says(call: Any):
    answers = Answers((429, {"Retry-After": "1"}), 200)
    began = time.monotonic()
    call(answers, lambda client: client.get("job_1"))
    assert time.monotonic() - began >= 1.0


def test_nobody_waits_for_longer_than_patience(call: Any):
    answers = Answers((503, {"Retry-After": "3600"}), 200)
    with pytest.raises(ClientError) as told:
        call(answers, lambda client: client.get("job_1"))
    assert told.value.status == 503
    assert len(answers.seen) == 1


@pytest.mark.parametrize("part", ["put", "push"])
def test_a_part_whose_answer_was_lost_is_sent_again_whole(call: Any, part: str, tmp_path: Path):
    (tmp_path / "weights.pt").write_bytes(b"weights")
    answers = Answers(LOST, 503, 201)
    if part == "put":
        sending: Call[None] = Call("PUT", "/v1/uploads/upl_1/parts/1", body=(tmp_path / "weights.pt").read_bytes)

        def one() -> Any:
            yield sending

        call(answers, lambda client: client.carry_out(one()))
    else:
        call(answers, lambda client: client.register_model(tmp_path / "weights.pt", "mine"))
    assert [request.content for request in answers.seen] == [b"weights"] * 3


def test_a_refusal_is_not_repeated(call: Any):
    answers = Answers(422, 200)
    with pytest.raises(ClientError):
        call(answers, lambda client: client.get("job_1"))
    assert len(answers.seen) == 1


def test_clients_come_back_at_different_times():
    pauses = {Repeats("u", 60.0, repeatable=True).pause_after(LOST) for _ in range(20)}
    assert len(pauses) > 10
    assert all(0.1 <= pause <= 0.25 for pause in pauses)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/anything", True), ("DELETE", "/v1/jobs/x", True), ("PUT", "/v1/x", True),
        ("POST", "/v1/jobs", False), ("POST", "/v1/jobs/x/retry", False), ("POST", "/v1/jobs/x/cancel", True),
        ("POST", "/v1/webhooks", False), ("POST", "/v1/webhooks/x/rotate", False), ("POST", "/v1/bulk", False),
        ("PATCH", "/v1/jobs/x", True), ("POST", "/v1/models", True), ("POST", "/v1/jobs/x/cancel/more", False),
    ],
)  # fmt: skip
def test_only_what_is_harmless_counts_as_repeatable(method: str, path: str, expected: bool):
    assert is_repeatable(method, path, {}) is expected
    assert is_repeatable(method, path, {"idempotency-KEY": "k"})


def test_both_clients_have_the_same_methods_with_the_same_parameters():
    for name, method in inspect.getmembers(AsyncClient, inspect.isfunction):
        if name.startswith("_"):
            continue
        twin = inspect.signature(getattr(Client, name)).parameters
        own = inspect.signature(method).parameters
        named = {one for one, parameter in own.items() if parameter.kind is not inspect.Parameter.VAR_KEYWORD}
        assert named <= set(twin), name


def test_the_asynchronous_client_submits_lists_waits_follows_and_downloads(sqlite_template: Path, tmp_path: Path):
    async def work(url: str) -> None:
        async with AsyncClient(url, key=OPERATOR) as client:
            assert (await client.validate(SPEC))["valid"]
            job = await client.submit(SPEC, labels={"site": "north"})
            assert [one["id"] async for one in client.list(labels={"site": None}, q="first")] == [job["id"]]
            with pytest.raises(TimeoutError):
                await client.wait(job["id"], timeout_s=0.1)
            async with anyio.create_task_group() as group:
                group.start_soon(client.cancel, job["id"])
                ended = await client.wait(job["id"], timeout_s=30)
            assert ended["state"] == "cancelled"
            events = [event["type"] async for event in client.stream(job["id"])]
            assert events == [event["type"] async for event in client.events(job["id"])]
            again = await client.retry(job["id"])
            (outcome,) = await client.act("cancel", [again["id"]])
            assert outcome["done"]

    with listening(sqlite_template, tmp_path) as url:
        anyio.run(work, url)
