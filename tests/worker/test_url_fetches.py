"""A file at a URL becomes an upload, and what is made of one: fetched by a worker, where the operator says so."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest
from retort.access import ClientRole
from retort.client import Client
from retort.client.transport import ClientError
from retort.data.public_fetch import FetchLimits, fetch_public
from retort.db import fetches, quotas
from retort.db.quotas import Limits
from retort.db.session import database_now
from retort.errors import FetchError
from retort_worker.dataset_intake import DatasetIntake
from retort_worker.url_fetches import UrlFetcher
from support.api_harness import listening
from support.https_server import HttpsServer, serving
from support.identity import HEADERS, OPERATOR, add_key
from support.worker_harness import House

HOST = "data.example.org"
LOOPBACK = (ipaddress.ip_network("127.0.0.1/32"),)
LARGE = os.urandom(300_000)


class Site:
    """Files by path; some are cut, moved, or endless."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"large": LARGE, "empty": b""}
        self.ranges: list[str | None] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        place, _, told = request.path.removeprefix("/").partition("?")
        if place == "moved":
            request.send_response(302)
            request.send_header("Location", told)
            request.end_headers()
        elif place == "cut":
            self._cut(request)
        elif place == "drip":
            request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nx")
            request.wfile.flush()
            request.rfile.read(1)
        elif place in self.files:
            self._send(request, self.files[place], 200)
        else:
            self._send(request, b"", 404)

    def _send(self, request: BaseHTTPRequestHandler, data: bytes, status: int, **headers: str) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(data)

    def _cut(self, request: BaseHTTPRequestHandler) -> None:
        """Send a third of a file, and the next third to whoever asks for it."""
        asked = request.headers["Range"]
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        request.send_response(206 if asked else 200)
        request.send_header("ETag", '"one"')
        request.send_header("Content-Length", str(len(LARGE) - start))
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}")
        request.end_headers()
        request.wfile.write(LARGE[start : start + 100_000])
        request.wfile.flush()
        request.close_connection = True


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


@pytest.fixture(scope="module")
def server(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsServer]:
    with serving(HOST, tmp_path_factory.mktemp("https"), site.answer) as found:
        yield found


@pytest.fixture
def service_settings() -> dict[str, Any]:
    return {"fetch_from": (HOST,), "max_upload_bytes": 1 << 20}


@pytest.fixture
def house(served_house: House) -> House:
    return served_house


Look = Callable[..., UrlFetcher]


@pytest.fixture
def fetcher(house: House, server: HttpsServer) -> Look:
    """Make a worker's fetcher, for which the host has this machine's address."""

    def made(**changes: Any) -> UrlFetcher:
        fetch = partial(fetch_public, lookup=lambda *_: ["127.0.0.1"], verify=server.trust)
        chosen = {"fetch_from": (HOST,), "max_upload_bytes": 1 << 20, "min_free_bytes": 0, **changes}
        return UrlFetcher(house.workshop(**chosen), look_s=1, fetch=fetch, trusted=LOOPBACK)

    return made


def at(server: HttpsServer, path: str, host: str = HOST) -> str:
    return f"https://{host}:{server.port}/{path}"


def zipped(folder: Path) -> bytes:
    with zipfile.ZipFile(target := folder.parent / "made.zip", "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return target.read_bytes()


def test_an_archive_at_a_url_becomes_a_dataset(
    client: Client, house: House, server: HttpsServer, site: Site, fetcher: Look
):
    site.files["tiny.zip"] = data = zipped(house.home / "data")
    url = at(server, "tiny.zip?signature=secret")
    dataset = client.datasets.fetch(url, "tiny", sha256=hashlib.sha256(data).hexdigest())
    assert (dataset["state"], client.datasets.fetch(url, "tiny", sha256=hashlib.sha256(data).hexdigest())["id"]) == (
        "uploading", dataset["id"],
    )  # fmt: skip
    assert dataset["upload_id"] is not None
    waiting = client.uploads.get(dataset["upload_id"])
    assert (waiting["source_url"], waiting["name"]) == (at(server, "tiny.zip"), "tiny.zip"), "secrets are not shown"
    assert fetcher().take()
    upload = client.uploads.wait(waiting["id"])
    assert (upload["state"], upload["size_bytes"], upload["source_url"]) == ("complete", len(data), None)
    assert upload["received_bytes"] == len(data)
    assert DatasetIntake(house.workshop(), look_s=1).take()
    assert client.datasets.wait(dataset)["state"] == "ready"
    assert not fetcher().take(), "nothing waits any more"
    known = client.uploads.fetch(at(server, "elsewhere"), sha256=hashlib.sha256(data).hexdigest())
    assert known["id"] == upload["id"], "what is there is not fetched"


def test_a_download_that_is_cut_is_gone_on_with(client: Client, server: HttpsServer, site: Site, fetcher: Look):
    upload = client.uploads.fetch(at(server, "cut"))
    assert fetcher().take()
    assert client.uploads.wait(upload["id"])["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert site.ranges == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize(
    ("path", "about", "changes", "code", "told"),
    [
        ("missing", {}, {}, "fetch_failed", "404"),
        ("empty", {}, {}, "fetch_failed", "empty"),
        ("large", {"sha256": "0" * 64}, {}, "bad_digest", "not the announced one"),
        ("large", {}, {"max_upload_bytes": 200_000}, "bad_data", "gives more than"),
        ("large", {}, {"min_free_bytes": 1 << 60}, "storage_full", "no room"),
        ("large", {}, {"fetch_from": ("other.example.org",)}, "bad_address", "none of the hosts"),
        ("drip", {}, {"max_intake_s": 0.5}, "fetch_failed", "could not fetch"),
        ("moved?https://169.254.169.254/latest/", {}, {"fetch_from": ("*",)}, "bad_address", "not a public address"),
        ("moved?https://files.example.org/large", {}, {}, "bad_address", "none of the hosts"),
        ("moved?http://data.example.org/large", {}, {}, "bad_address", "scheme"),
        ("moved?/moved", {}, {}, "bad_address", "redirects"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_the_datasets_state(  # noqa: PLR0917 - one for each thing that is wrong
    client: Client,
    server: HttpsServer,
    fetcher: Look,
    path: str,
    about: dict[str, Any],
    changes: dict[str, Any],
    code: str,
    told: str,
):
    dataset = client.datasets.fetch(at(server, path), "broken", **about)
    assert fetcher(**changes).take()
    dataset = client.datasets.version("broken", dataset["id"])
    (finding,) = dataset["findings"]
    assert (dataset["state"], finding["code"]) == ("refused", code)
    assert told in finding["message"]
    assert dataset["upload_id"] is not None
    upload = client.uploads.get(dataset["upload_id"])
    assert (upload["state"], upload["failure"] and upload["failure"]["code"]) == ("failed", code)
    with pytest.raises(ClientError, match="could not be fetched"):
        client.uploads.complete(upload["id"])


def test_what_exceeds_the_projects_bytes_is_given_up_before_it_comes(
    client: Client, house: House, server: HttpsServer, fetcher: Look
):
    with house.database.begin() as session:
        quotas.put(session, "default", Limits(stored_bytes=len(LARGE) - 1))
    upload = client.uploads.fetch(at(server, "large"))
    assert fetcher().take()
    with pytest.raises(ClientError, match="stored bytes"):
        client.uploads.wait(upload["id"])


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example.org/x", "https://data.example.org.evil.example/x", "https://me@data.example.org/x",
        "https://127.0.0.1/x", "https://data.example.org\\@other/x", "https://data.example.org/x#y",
    ],
)  # fmt: skip
def test_other_hosts_and_urls_that_readers_take_differently_are_refused_at_once(client: Client, url: str):
    for begin in (lambda: client.uploads.fetch(url), lambda: client.datasets.fetch(url, "x")):
        with pytest.raises(ClientError) as refused:
            begin()
        assert refused.value.code == "bad_address"


def test_nothing_is_fetched_unless_the_operator_says_so(sqlite_template: Path, tmp_path: Path):
    with listening(sqlite_template, tmp_path) as url, Client(url, key=OPERATOR) as client:
        for begin in (lambda: client.uploads.fetch("https://data.example.org/x"),
                      lambda: client.datasets.fetch("https://data.example.org/x", "x")):  # fmt: skip
            with pytest.raises(ClientError, match="fetches nothing by URL") as refused:
                begin()
            assert (refused.value.code, refused.value.status) == ("fetching_off", 403)
            assert "RETORT_FETCH_FROM" in str(refused.value.hint)


def test_no_bytes_can_be_sent_into_what_is_fetched_and_another_project_does_not_see_it(
    client: Client, service: str, server: HttpsServer, house: House
):
    upload = client.uploads.fetch(at(server, "large"))
    with pytest.raises(ClientError, match="is being fetched"):
        client.uploads.complete(upload["id"])
    tus = {**HEADERS, "Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert httpx2.patch(f"{service}/v1/tus/{upload['id']}", headers=tus, content=b"x").status_code == 409
    digest = {**HEADERS, "Repr-Digest": "sha-256=:" + "A" * 43 + "=:", "Content-Type": "application/octet-stream"}
    assert httpx2.put(f"{service}{upload['links']['self']}/parts/1", headers=digest, content=b"x").status_code == 409
    eve = add_key(house.database, "eve", ClientRole.SUBMITTER, project="eve", owner="eve")
    assert httpx2.get(service + upload["links"]["self"], headers=eve).status_code == 404
    mine = httpx2.post(f"{service}/v1/uploads/fetch", headers=eve, json={"url": at(server, "large")}).json()
    assert mine["id"] != upload["id"]


def test_a_killed_workers_fetch_is_taken_over_and_three_lost_ones_end_it(
    client: Client, house: House, server: HttpsServer, fetcher: Look
):
    upload = client.uploads.fetch(at(server, "large"))
    later = house.settings.lease_s + 1

    def lost(after_s: float) -> bool:
        with house.database.begin() as session:
            now = database_now(session) + after_s
            fetches.reap(session, now=now)
            return fetches.claim(session, worker="killed", now=now, lease_s=house.settings.lease_s) is not None

    assert lost(-3 * later)
    assert not fetcher().take(), "the reaper gives it to others, not whoever asks"
    with house.database.begin() as session:
        assert fetches.reap(session, now=database_now(session)) == 1
    assert fetcher().take()
    assert client.uploads.wait(upload["id"])["sha256"] == hashlib.sha256(LARGE).hexdigest()
    unlucky = client.datasets.fetch(at(server, "other"), "unlucky")
    assert [lost(number * later) for number in range(4)] == [True, True, True, False]
    with pytest.raises(ClientError, match="3 workers were lost"):
        client.datasets.wait(unlucky)


def test_a_server_that_drips_is_given_up_though_it_never_rests(server: HttpsServer, tmp_path: Path):
    now = iter(range(0, 10_000, 40))
    limits = FetchLimits(most_bytes=1 << 20, least_bytes_s=65_536.0, trusted=LOOPBACK)
    with pytest.raises(FetchError, match="less than 65536 bytes in a second"):
        fetch_public(
            at(server, "large"), tmp_path / "got", limits,
            lookup=lambda *_: ["127.0.0.1"], verify=server.trust, clock=lambda: float(next(now)),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
