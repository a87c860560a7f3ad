"""Both clients have a call for each operation of the contract, and take answers as they are documented."""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import anyio
import httpx2 as httpx
import pytest
from retort.client import AsyncClient, Client, answer_parts, answers
from retort.client.operations import Awaiting, Blocking, Listed, Operation
from retort_api import client_types
from support.identity import OPERATOR

CONTRACT: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
FOREIGN = {
    "describe_tus": "for clients of tus; the same is done by uploads",
    "create_tus_upload": "for clients of tus",
    "look_at_tus_upload": "for clients of tus",
    "append_to_tus_upload": "for clients of tus",
    "terminate_tus_upload": "for clients of tus",
    "open_download": "for whoever has the link and no key",
    "describe_download": "for whoever has the link and no key",
}
"""Operations that the clients leave to others, with the reason."""
CONTENT = b"content"
DIGEST = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
HEADERS = {"Repr-Digest": f"sha-256=:{DIGEST}:", "ETag": '"x"'}
UPLOAD = {"id": "upl_1", "state": "open", "missing": [1], "links": {}}
ANY = {
    "id": "x_1", "state": "succeeded", "data": [], "has_more": False, "next_cursor": None, "next_after": 0,
    "result": None, "findings": [], "path": "/login", "newer": {"field": 1},
}  # fmt: skip


class Service:
    """Answers whatever it is asked, and keeps which operations these were."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.seen |= {found for found in [operation(request.method, path)] if found}
        if path.endswith("/stream"):
            return httpx.Response(204)
        if request.method in {"GET", "HEAD"} and re.search("/static/|/artifacts/|/content$|/v1/models/x/b+$", path):
            return httpx.Response(200, headers=HEADERS, content=CONTENT)
        return httpx.Response(200, json=UPLOAD if path == "/v1/uploads" and request.method == "POST" else ANY)

    async def later(self, request: httpx.Request) -> httpx.Response:
        return self(request)


def operation(method: str, path: str) -> str | None:
    """Return which operation of the contract a request is; the one with the fewest variables, if several fit."""
    fitting = [
        (template.count("{"), operations[method.lower()]["operationId"])
        for template, operations in CONTRACT["paths"].items()
        if method.lower() in operations and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path)
    ]
    return min(fitting, default=(0, None))[1]


def arguments(method: Any, folder: Path) -> dict[str, Any]:
    """Return an argument for each parameter that a call needs, by its name."""
    file = folder / "file.bin"
    file.write_bytes(CONTENT)
    known = {
        "spec": {"name": "x"}, "sweep": {"name": "x"}, "job_ids": ["job_1"], "action": "cancel", "path": file,
        "image": b"x" if method.__name__ == "predict" else "a", "sha256": "b" * 64, "version": "b" * 64,
        "events": ["job.failed"], "data": b"x", "number": 1, "priority": 1, "patch": {}, "timeout_s": 1.0,
        "dataset": {"name": "x", "id": "dst_1", "state": "ready", "findings": []},
    }  # fmt: skip
    if method.__name__ in {"download", "download_model", "tensorboard"}:
        known["path"] = folder / "got" / method.__qualname__
    if method.__name__ == "send":
        from retort.client.uploads import Content

        known["content"] = Content.of(file)
    named = inspect.signature(method).parameters.values()
    return {
        one.name: known.get(one.name, "x")
        for one in named if one.default is one.empty and one.kind is not one.VAR_KEYWORD
    }  # fmt: skip


def calls(client: Any) -> Iterator[Any]:
    """Yield every bound call of a client and of its parts."""
    parts = [client, client.webhooks, client.uploads, client.datasets, client.review("job_1")]
    for part in parts:
        for kind in type(part).__mro__:
            for name, member in vars(kind).items():
                if isinstance(member, Operation | Listed) or name == "stream":
                    yield getattr(part, name)


def seen_by_blocking(folder: Path) -> set[str]:
    service = Service()
    with Client("http://127.0.0.1:1", key=OPERATOR) as client:
        client._http = httpx.Client(base_url=client.url, transport=httpx.MockTransport(service))
        for method in calls(client):
            answer = method(**arguments(method, folder))
            if isinstance(answer, Iterator):
                list(answer)
        client.rotate_key("key_1")
    return service.seen


def seen_by_awaiting(folder: Path) -> set[str]:
    service = Service()

    async def ask() -> None:
        async with AsyncClient("http://127.0.0.1:1", key=OPERATOR) as client:
            client._http = httpx.AsyncClient(base_url=client.url, transport=httpx.MockTransport(service.later))
            for method in calls(client):
                answer = method(**arguments(method, folder))
                if isinstance(answer, AsyncIterator):
                    assert [one async for one in answer] == []
                else:
                    await answer
            await client.rotate_key("key_1")

    anyio.run(ask)
    return service.seen


@pytest.mark.parametrize("seen_by", [seen_by_blocking, seen_by_awaiting])
def test_a_client_has_a_call_for_each_operation_that_is_not_left_to_others(seen_by: Any, tmp_path: Path):
    every = {one["operationId"] for path in CONTRACT["paths"].values() for one in path.values()}
    assert sorted(every - FOREIGN.keys() - seen_by(tmp_path)) == []
    assert FOREIGN.keys() <= every


def test_the_calls_of_both_clients_are_the_same():
    for part in ("", "webhooks", "uploads", "datasets", "review"):
        names = []
        for client in (Client("http://127.0.0.1:1", key=OPERATOR), AsyncClient("http://127.0.0.1:1", key=OPERATOR)):
            found = client if not part else getattr(client, part)
            kind = type(found("job_1") if part == "review" else found)
            public = inspect.getmembers(kind, lambda member: inspect.isfunction(member) or isinstance(member, property))
            names.append({
                name: [str(one) for one in inspect.signature(member).parameters.values()]
                for name, member in public if not name.startswith("_") and inspect.isfunction(member)
            })  # fmt: skip
        assert names[0] == names[1], part


def described(name: str) -> str | None:
    """Return the name of the object that an operation answers with; that of its elements for lists."""
    schemas = CONTRACT["components"]["schemas"]
    for path in CONTRACT["paths"].values():
        for one in path.values():
            if one["operationId"] == name:
                ok = next(answer for status, answer in one["responses"].items() if status.startswith("2"))
                schema = ok.get("content", {}).get("application/json", {}).get("schema", {})
                found = schema.get("$ref", "").rpartition("/")[2]
                data = schemas.get(found, {}).get("properties", {}).get("data", {})
                return (data.get("items", {}).get("$ref", "").rpartition("/")[2] or found) or None
    raise AssertionError(name)


def test_each_single_call_is_typed_as_the_contract_says(tmp_path: Path):
    wrong = []
    with Client("http://127.0.0.1:1", key=OPERATOR) as client:
        for method in calls(client):
            service = Service()
            client._http = httpx.Client(base_url=client.url, transport=httpx.MockTransport(service))
            answer = method(**arguments(method, tmp_path))
            if isinstance(answer, Iterator):
                list(answer)
            hints = get_type_hints(inspect.unwrap(method))["return"]
            types = {kind.__name__ for kind in leaves(hints) if getattr(kind, "__module__", "") == answers.__name__}
            types -= {"DeviceWaiting"}  # of an answer with another status
            if len(service.seen) == 1 and types and types - {"Event"} != {described(*service.seen)} - {"Event", None}:
                wrong.append((method.__name__, types, described(*service.seen)))
    assert wrong == []


def leaves(kind: Any) -> Iterator[Any]:
    inside = get_args(kind)
    if not inside:
        yield kind
    for one in inside:
        yield from leaves(one)


def test_the_types_of_answers_are_those_of_the_contract():
    written = client_types.modules(CONTRACT)
    for module in (answers, answer_parts):
        path = Path(module.__file__)
        assert path.read_text() == written[path.name], "python -m retort_api client-types core/retort/client"


def test_what_a_newer_service_adds_stays_in_the_answer():
    with Client("http://127.0.0.1:1", key=OPERATOR) as client:
        client._http = httpx.Client(base_url=client.url, transport=httpx.MockTransport(Service()))
        answer: Any = client.get("job_1")
    assert answer["newer"] == {"field": 1}


def test_a_call_is_carried_out_by_clients_alone():
    assert issubclass(Client, Blocking)
    assert issubclass(AsyncClient, Awaiting)
    assert not issubclass(AsyncClient, Blocking)
