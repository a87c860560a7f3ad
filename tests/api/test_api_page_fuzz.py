"""Forms and pages asked for with wrong fields, ids and bodies of all kinds: they answer with a page, and never fail."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel
from retort.db import Database
from retort_api.errors import leaves
from retort_api.pages.page_router import FormRoute, PageRoute
from support import places
from support.api_harness import LOCAL, SPEC, SWEEP, Worker
from support.identity import HEADERS

OURS = {**HEADERS, "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
VALUES = (
    "a%00b", "%ED%A0%80", "%FF", "9" * 400, "-1", "99999999999999999999", "NaN", "1e999", "W" * 70_000,
    "%F0%9F%9C%8F%E2%80%AE", "a%0D%0AX-Owned:%201", "..%2F..%2Fetc", "%7B%7B7*7%7D%7D", "[]", "+",
)  # fmt: skip
"""Spelled as they are sent."""
WRONG_IDS = ("x", "%ED%A0%80", "W" * 3000, "%F0%9F%9C%8F", "0", "%20")
BODIES: tuple[tuple[Mapping[str, str], bytes], ...] = (
    (URLENCODED, b""),
    (URLENCODED, b"&&==&=x&%&%zz=%zz"),
    (URLENCODED, b"&".join(b"f%d=1" % number for number in range(2000))),
    (URLENCODED, b"unknown=1"),
    ({"Content-Type": "multipart/form-data"}, b"x"),
    ({"Content-Type": "multipart/form-data; boundary=b"}, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--"),
    ({"Content-Type": "multipart/form-data; boundary=b"}, b'--b\r\nContent-Disposition: form-data; name="a"\n\xff'),
    ({"Content-Type": "application/x-www-form-urlencoded; charset=utf-16"}, "name=x".encode("utf-16")),
)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What lies in the service, by the names of parameters in paths."""

    ids: Mapping[str, str]
    wrong_ids: Iterator[str]

    def path(self, route: Any) -> str:
        """Return the path of *route* to things that are there."""
        given = {**self.ids, "name": self.ids["data" if route.path.startswith("/data") else "model"]}
        return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: given[found[1]], route.path)

    def wrong_paths(self, route: Any) -> Iterator[str]:
        """Yield its paths to what is not there, or cannot be."""
        if "{" in route.path:
            for one in ("%00", *islice(self.wrong_ids, 3)):
                yield re.sub(r"\{[^}]+\}", lambda _, one=one: one, route.path)


@pytest.fixture
def sturdy(app: FastAPI) -> Iterator[TestClient]:
    """Somebody on our own pages, who sees failures as they are answered."""
    with TestClient(app, LOCAL, raise_server_exceptions=False, headers=OURS, follow_redirects=False) as client:
        yield client


@pytest.fixture
def known(sturdy: TestClient, database: Database, worker: Worker) -> Known:
    jobs = [sturdy.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(2)]
    hook = {"url": "https://1.1.1.1/hook", "events": ["job.failed"]}
    places.ready_dataset(database, worker.store, worker.folder, "cells")
    places.model(database, worker.store, worker.folder, "student", job_id=jobs[1])
    key = sturdy.post("/v1/keys", json={"name": "other", "role": "reader"}).json()["id"]
    return Known({
        "job_id": jobs[0], "sweep_id": sturdy.post("/v1/sweeps", json=SWEEP).json()["id"], "key_id": key,
        "webhook_id": sturdy.post("/v1/webhooks", json=hook).json()["id"], "data": "cells", "model": "student",
        "number": "0",
    }, cycle(WRONG_IDS))  # fmt: skip


def fields(parameters: Any) -> list[str]:
    """Return the names of the fields that a form or a query has."""
    found: list[str] = []
    for one in parameters:
        model = one.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            found += [field.alias or name for name, field in model.model_fields.items()]
        else:
            found.append(one.alias)
    return found


def wrong(answer: Any, asked: str) -> list[str]:
    """Return what is wrong with an answer: a failure, or a refusal that is no page."""
    page = answer.headers.get("content-type", "").startswith("text/html") or answer.status_code < 400
    return [] if answer.status_code < 500 and page else [f"{answer.status_code} {asked[:200]}: {answer.text[:200]}"]


def test_no_form_fails_whatever_it_is_sent(app: FastAPI, sturdy: TestClient, known: Known) -> None:
    found: list[str] = []
    taken: set[str] = set()
    values, bodies = cycle(VALUES), cycle(BODIES)
    for route in leaves(app.routes):
        if not isinstance(route, FormRoute) or route.path == "/logout":
            continue
        path = known.path(route)
        for wrong_path in known.wrong_paths(route):
            found += wrong(sturdy.post(wrong_path, content=b"", headers=URLENCODED), f"POST {wrong_path}")
        for headers, body in (BODIES[0], next(bodies), next(bodies)):
            answer = sturdy.post(path, content=body, headers=headers)
            found += wrong(answer, f"POST {path} {body[:60]!r}")
            taken |= {route.path} if answer.status_code == 303 else set()
        names = fields(route.dependant.body_params) or ["name"]
        for name in names:
            for value in ("%00", next(values), next(values), next(values)):
                others = "".join(f"&{other}=1" for other in names if other != name)
                body = f"{quote(name)}={value}{others}"
                found += wrong(sturdy.post(path, content=body, headers=URLENCODED), f"POST {path} {body}")
            doubled = f"{quote(name)}=1&{quote(name)}=2"
            found += wrong(sturdy.post(path, content=doubled, headers=URLENCODED), f"POST {path} {doubled}")
    assert found == [], "\n".join(found)
    assert len(taken) > 7, "what needs no field is done"


def test_no_page_fails_whatever_its_address_says(app: FastAPI, sturdy: TestClient, known: Known) -> None:
    found: list[str] = []
    values = cycle(VALUES)
    for route in leaves(app.routes):
        if not isinstance(route, PageRoute) or isinstance(route, FormRoute) or "GET" not in (route.methods or ()):
            continue
        path = known.path(route)
        asked = [path, f"{path}?unknown=1", *known.wrong_paths(route)]
        for name in fields(route.dependant.query_params):
            asked += [f"{path}?{name}={value[:5000]}" for value in ("%00", *(next(values) for _ in range(5)))]
            asked.append(f"{path}?{name}=1&{name}=2")
        for address in asked:
            found += wrong(sturdy.get(address), f"GET {address}")
    assert found == [], "\n".join(found)


def test_no_answer_to_programs_fails_for_a_character_that_no_database_keeps(
    app: FastAPI, sturdy: TestClient, known: Known
) -> None:
    asked: list[tuple[str, str]] = []
    for route in leaves(app.routes):
        if not route.path.startswith("/v1/") or route.path.endswith("/stream"):
            continue
        if "{" in route.path:
            asked += [(method, re.sub(r"\{[^}]+\}", "a%00b", route.path)) for method in route.methods or ()]
        if "GET" not in (route.methods or ()):
            continue
        given = {**known.ids, "name": "student"}
        path = re.sub(r"\{(\w+)(:\w+)?\}", lambda found, given=given: given.get(found[1], "x"), route.path)
        asked += [("GET", f"{path}?{name}=a%00b") for name in fields(route.dependant.query_params)]
    answers = {one: sturdy.request(*one, json={}).status_code for one in asked}

    assert len(answers) > 100
    assert {one: status for one, status in answers.items() if status >= 500} == {}
