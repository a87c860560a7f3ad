"""A file is fetched by URL over https, from the address that was checked, or not at all."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from retort.addresses import AddressError
from retort.data.public_fetch import FetchLimits, fetch_public
from retort.errors import DataError, FetchError
from support.https_server import HttpsServer, serving

HOST = "data.example.org"
LOOPBACK = (ipaddress.ip_network("127.0.0.1/32"),)
LIMITS = FetchLimits(most_bytes=1000, trusted=LOOPBACK)


def answer(request: BaseHTTPRequestHandler) -> None:
    place, _, told = request.path.removeprefix("/").partition("?")
    if place == "moved":
        request.send_response(302)
        request.send_header("Location", told)
        request.end_headers()
        return
    if place == "slow":
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        request.wfile.flush()
        request.rfile.read(1)  # until the client has gone
        return
    body = {"file": b"content", "large": b"x" * 1001}.get(place)
    request.send_response(404 if body is None else 200)
    request.send_header("Content-Length", str(len(body or b"")))
    request.end_headers()
    request.wfile.write(body or b"")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsServer]:
    with serving(HOST, tmp_path_factory.mktemp("https"), answer) as found:
        yield found


def fetch(server: HttpsServer, path: str, target: Path, limits: FetchLimits = LIMITS, host: str = HOST) -> None:
    url = f"https://{host}:{server.port}/{path}"
    fetch_public(url, target, limits, lookup=lambda *_: ["127.0.0.1"], verify=server.trust)


def test_the_file_comes_from_the_pinned_address_under_the_hosts_own_name(server: HttpsServer, tmp_path: Path):
    fetch(server, "file", tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == b"content"
    assert server.asked[-1] == (f"{HOST}:{server.port}", "/file")


def test_a_certificate_of_another_host_is_not_taken(server: HttpsServer, tmp_path: Path):
    with pytest.raises(FetchError, match="certificate"):
        fetch(server, "file", tmp_path / "got", host="other.example.org")
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_is_followed_where_it_is_public(server: HttpsServer, tmp_path: Path):
    fetch(server, "moved?/file", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"content"


@pytest.mark.parametrize(
    "place",
    [
        "https://169.254.169.254/latest/meta-data/", "http://data.example.org/file", "file:///etc/passwd",
        "https://[::ffff:127.0.0.1]/", "//10.0.0.1/file", "https://me@data.example.org/file",
    ],
)  # fmt: skip
def test_a_redirect_to_what_is_not_public_is_refused(server: HttpsServer, tmp_path: Path, place: str):
    number = len(server.asked)
    with pytest.raises(AddressError):
        fetch(server, f"moved?{place}", tmp_path / "got")
    assert len(server.asked) == number + 1
    assert list(tmp_path.iterdir()) == []


def test_redirects_in_a_circle_come_to_an_end(server: HttpsServer, tmp_path: Path):
    with pytest.raises(AddressError, match="redirects"):
        fetch(server, "moved?/moved", tmp_path / "got")


def test_a_name_that_leads_elsewhere_at_the_second_look_is_not_looked_up_twice(server: HttpsServer, tmp_path: Path):
    asked = []

    def lookup(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    url = f"https://{HOST}:{server.port}/file"
    fetch_public(url, tmp_path / "got", LIMITS, lookup=lookup, verify=server.trust)
    assert asked == [HOST]


def test_what_is_too_large_or_missing_or_late_leaves_nothing(server: HttpsServer, tmp_path: Path):
    with pytest.raises(DataError, match="gives more than"):
        fetch(server, "large", tmp_path / "got")
    with pytest.raises(FetchError, match="404"):
        fetch(server, "missing", tmp_path / "got")
    times = iter((0.0, 100.0, 200.0))
    with pytest.raises(FetchError, match="longer than 60 s"):
        fetch_public(
            f"https://{HOST}:{server.port}/file", tmp_path / "got",
            FetchLimits(most_bytes=1000, most_s=60, trusted=LOOPBACK),
            lookup=lambda *_: ["127.0.0.1"], verify=server.trust, clock=lambda: next(times),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_this_machine_is_not_fetched_from_unless_the_operator_trusts_it(server: HttpsServer, tmp_path: Path):
    number = len(server.asked)
    with pytest.raises(AddressError, match="not a public address"):
        fetch(server, "file", tmp_path / "got", FetchLimits(most_bytes=1000))
    assert len(server.asked) == number


def test_a_server_that_never_ends_its_head_is_cut_off(server: HttpsServer, tmp_path: Path):
    began = time.monotonic()
    with pytest.raises(FetchError):
        fetch(server, "slow", tmp_path / "got", FetchLimits(most_bytes=1000, most_s=0.5, trusted=LOOPBACK))
    assert time.monotonic() - began < 15
    assert list(tmp_path.iterdir()) == []
