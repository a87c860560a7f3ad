"""Who asks too often is told when to come again, and a valid key is never refused for others' invalid ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from retort.access import ClientRole
from retort.db import Database
from retort.settings import Settings
from retort_api.app import create_app
from support.api_harness import LOCAL, serving
from support.identity import HEADERS, add_key, secret_of


@pytest.fixture
def reader(small_settings: Settings) -> Iterator[TestClient]:
    limits = {"rate_limit": "3/minute", "failed_key_limit": "2/minute"}
    with serving(small_settings.model_copy(update=limits)) as client:
        database: Database = client.app.state.service.database  # type: ignore[attr-defined]
        client.headers = add_key(database, "reader", ClientRole.READER)  # type: ignore[assignment]
        yield client


def test_a_key_that_asks_too_often_is_told_when_to_come_again(reader: TestClient) -> None:
    answers = [reader.get("/v1/jobs") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"key";q=3;w=60'
    assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in answers[:3]] == [
        '"key";r=2', '"key";r=1', '"key";r=0',
    ]  # fmt: skip
    problem = answers[3].json()
    assert (problem["code"], problem["retryable"]) == ("rate_limited", True)
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 120
    assert reader.get("/v1/jobs", headers=HEADERS).status_code == 200, "operators, and other keys, are not counted"


def test_invalid_keys_are_counted_by_address_and_valid_ones_never_refused(reader: TestClient) -> None:
    invalid = {"Authorization": f"Bearer {secret_of('nobody')}"}
    tried = [reader.get("/v1/jobs", headers=invalid).status_code for _ in range(4)]

    assert tried == [401, 401, 429, 429]
    assert reader.get("/v1/jobs").status_code == 200


def _from(settings: Settings, peer: str) -> TestClient:
    return TestClient(create_app(settings), base_url=LOCAL, client=(peer, 1234))


def test_a_proxy_is_believed_about_addresses_where_it_is_configured(small_settings: Settings) -> None:
    trusting = small_settings.model_copy(
        update={"failed_key_limit": "1/minute", "trusted_proxies": ("10.0.0.1", "10.1.0.0/16")}
    )
    invalid = {"Authorization": f"Bearer {secret_of('nobody')}"}
    for peer, expected in (("10.0.0.1", 401), ("10.1.2.3", 401), ("10.9.9.9", 429)):
        with _from(trusting, peer) as client:
            tried = [
                client.get("/v1/jobs", headers={**invalid, "X-Forwarded-For": f"192.0.2.{n}"}).status_code
                for n in range(2)
            ]
        assert tried[1] == expected, peer


def test_a_trusted_header_names_people_from_configured_proxies_alone(small_settings: Settings) -> None:
    named = {"X-Forwarded-User": "ann@example.org"}
    chosen = {
        "trusted_proxies": ("10.0.0.1",), "trusted_header": "X-Forwarded-User", "login_role": "reader",
    }  # fmt: skip
    settings = small_settings.model_copy(update=chosen)
    with _from(settings, "10.0.0.1") as client:
        assert client.get("/v1/jobs", headers=named).status_code == 200
        assert client.post("/v1/jobs", headers=named, json={}).status_code == 403, "readers change nothing"
        assert client.get("/v1/jobs").status_code == 401
        for wrong in ("", "ann b", "a" * 64, "../x", "ann\u00e9"):
            assert client.get("/v1/jobs", headers={"X-Forwarded-User": wrong.encode()}).status_code == 401, wrong
        twice = [("X-Forwarded-User", "ann"), ("X-Forwarded-User", "ben")]
        assert client.get("/v1/jobs", headers=twice).status_code == 401
        away = {**named, "X-Forwarded-For": "192.0.2.7"}
        assert client.get("/v1/jobs", headers=away).status_code == 200, "it is the proxy that has connected"
    for peer, forwarded in (("10.0.0.2", ""), ("192.0.2.7", "10.0.0.1"), ("127.0.0.1", "10.0.0.1")):
        with _from(settings, peer) as client:
            answer = client.get("/v1/jobs", headers={**named, **HEADERS, "X-Forwarded-For": forwarded})
            assert answer.status_code == 401, "whoever else sends the header is refused, with a key or without"


def test_nobody_is_believed_by_default(small_settings: Settings) -> None:
    with _from(small_settings, "127.0.0.1") as client:
        assert client.get("/v1/jobs", headers={"X-Forwarded-User": "ann"}).status_code == 401
