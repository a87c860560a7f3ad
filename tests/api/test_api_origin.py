"""Requests for other hosts, and changes that other sites' pages ask for, on every route there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.settings import Settings
from retort_api.app import create_app
from retort_api.pages.page_router import form_paths
from retort_api.pages.rendering import PAGE_POLICY
from starlette.routing import Route
from support.api_harness import LOCAL, serving

OWN = "http://127.0.0.1:8000"
FOREIGN_HOSTS = [
    "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example#127.0.0.1",
    "evil@127.0.0.1", "127.0.0.1@evil.example", "0.0.0.0:8000", "192.168.1.7:8000", "[::ffff:192.168.1.7]", "",
    "127.0.0.1,evil.example", "2130706433", "127.1", "lo\tcalhost", "[::1", "localhost:", "localhost:port",
]  # fmt: skip
PAGES = [
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:3000"}, {"Origin": ""},
    {"Origin": "http://127.0.0.1:8000.evil.example"}, {"Origin": "http://127.0.0.1:8000/"}, {"Origin": "file://"},
    {"Origin": "https://127.0.0.1:8000@evil.example"}, {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "nonsense", "Origin": OWN},
]  # fmt: skip


@pytest.fixture(scope="module")
def client(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("origin")
    (home / "retort.db").write_bytes(sqlite_template.read_bytes())
    settings = Settings(home=home, allowed_hosts=("Retort.Lab",), url="https://retort.example")
    with serving(settings) as client:
        yield client


def _operations(client: TestClient) -> list[tuple[str, str]]:
    """Return every method and path, with something in the place of each parameter."""
    app: Any = client.app
    routes = [route for route in _flat(app.routes) if route.methods]
    paths = [(method, re.sub(r"\{[^}]+\}", "x", route.path)) for route in routes for method in route.methods]
    assert len(paths) > 60
    return [*paths, ("GET", "/nothing"), ("POST", "/nothing")]


def _flat(routes: Any) -> Iterator[Route]:
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:
            yield from _flat(getattr(route, "routes", None) or route.original_router.routes)


def test_no_route_answers_under_a_foreign_name(client: TestClient) -> None:
    for method, path in _operations(client):
        answer = client.request(method, path, headers={"Host": "evil.example", "Origin": "http://evil.example"})

        assert answer.status_code == 421, (method, path)
        assert method == "HEAD" or answer.json()["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_hosts_that_look_like_ours_are_foreign(client: TestClient, host: str) -> None:
    assert client.get("/livez", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8000", "LOCALHOST:9", "localhost.", "[::1]:8000", "127.0.0.2", "retort.example:443",
     "retort.lab:8000"],
)  # fmt: skip
def test_the_configured_and_the_loopback_addresses_are_ours(client: TestClient, host: str) -> None:
    assert client.get("/livez", headers={"Host": host}).status_code == 200


def test_the_address_that_a_client_has_connected_to_is_ours(small_settings: Settings) -> None:
    with TestClient(create_app(small_settings), base_url="http://192.168.1.7:8000") as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/livez", headers={"Host": "192.168.1.8:8000"}).status_code == 421


def test_two_hosts_are_none(client: TestClient) -> None:
    answer = client.get("/livez", headers=[("Host", "127.0.0.1:8000"), ("Host", "evil.example")])
    assert answer.status_code == 421


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_route_changes_anything_for_another_sites_page(client: TestClient, page: dict[str, str]) -> None:
    for method, path in _operations(client):
        answer = client.request(method, path, headers={"Host": "127.0.0.1:8000", **page})
        refused = answer.status_code == 403 and (method == "HEAD" or answer.json().get("code") == "cross_site")

        assert refused is (method not in {"GET", "HEAD", "OPTIONS"}), (method, path, answer.status_code)


@pytest.mark.parametrize(
    "page",
    [{"Host": "127.0.0.1:8000", "Origin": OWN, "Sec-Fetch-Site": "same-origin"}, {"Host": "localhost:9000"},
     {"Host": "localhost:9000", "Origin": "http://localhost:9000"}, {"Sec-Fetch-Site": "none"},
     {"Host": "retort.example", "Origin": "https://retort.example"},
     {"Host": "retort.example:443", "Origin": "https://retort.example"}],
    ids=str,
)  # fmt: skip
def test_our_own_pages_and_programs_may_change_things(client: TestClient, page: dict[str, str]) -> None:
    answer = client.post("/nothing", headers=page)
    assert answer.status_code == 404, "it came as far as the routes"


def test_a_page_without_tls_is_none_of_a_service_with_tls(client: TestClient) -> None:
    page = {"Host": "retort.example", "Origin": "http://retort.example"}
    assert client.post("/nothing", headers=page).status_code == 403


@pytest.mark.parametrize(
    "named",
    ["text/plain", "text/plain;charset=application/json", "application/x-www-form-urlencoded",
     "multipart/form-data; boundary=x", "Text/Plain", None],
)  # fmt: skip
def test_no_route_reads_what_a_form_can_send(client: TestClient, named: str | None) -> None:
    headers = {} if named is None else {"Content-Type": named}
    for method, path in _operations(client):
        if method == "POST" or (named and method in {"PUT", "PATCH", "DELETE"}):
            answer = client.request(method, path, content=b"{}", headers=headers)

            # Where forms are sent, those are read that a page of ours says it has sent; of this nothing is known.
            form = method == "POST" and form_paths(client.app.routes)(path)  # type: ignore[attr-defined]
            wanted = 403 if form and "text/" not in (named or "").lower() else 415
            assert answer.status_code == wanted, (method, path)


def test_a_file_with_labels_is_not_read_as_anything(client: TestClient) -> None:
    url = f"{LOCAL}/v1/jobs/job_{'0' * 32}/review/import?format=coco"
    assert client.post(url, content=b"{}", headers={"Content-Type": "image/png"}).status_code == 415
    assert client.post(url, content=b"{}", headers={"Content-Type": "application/json"}).status_code == 404


def test_every_answer_carries_the_headers_that_keep_browsers_harmless(client: TestClient) -> None:
    for method, path in _operations(client):
        headers = client.request(method, path, headers={"Host": "127.0.0.1:8000"}).headers

        assert headers["X-Content-Type-Options"] == "nosniff", path
        policy = headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == ("same-origin" if policy == PAGE_POLICY else "no-referrer"), path
        assert "default-src 'none'" in policy or policy == PAGE_POLICY, path
        assert "frame-ancestors" in policy, path
        assert "unsafe-" not in policy, path
