"""Clients that are slow, silent or too many, on real sockets."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from support.api_harness import eventually, listening
from support.identity import OPERATOR

HEAD = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer " + OPERATOR.encode() + b"\r\n"
)


@pytest.fixture(scope="module")
def url(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    limits: dict[str, Any] = {"head_timeout_s": 0.5, "transfer_timeout_s": 0.5, "max_connections": 400}
    with listening(sqlite_template, tmp_path_factory.mktemp("connections"), **limits) as url:
        yield url


def connected(url: str, *, receive_bytes: int | None = None) -> socket.socket:
    found = socket.socket()
    if receive_bytes is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    found.settimeout(10)
    found.connect(("127.0.0.1", urlsplit(url).port))
    return found


def rest(connection: socket.socket) -> bytes:
    """Return what comes until the server closes; fails where it does not."""
    received = b""
    try:
        while found := connection.recv(65536):
            received += found
    except ConnectionResetError:
        pass
    return received


def trickle(connection: socket.socket, piece: bytes) -> bytes:
    """Send *piece* again and again until the server has closed."""
    try:
        for _ in range(200):
            connection.sendall(piece)
            if select.select([connection], [], [], 0.05)[0]:
                return rest(connection)
    except (BrokenPipeError, ConnectionResetError):
        return b""
    pytest.fail("the server has waited for ten seconds")


def test_300_half_open_requests_are_closed_while_others_are_served(url: str) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(url)) for _ in range(150)]
        begun = [stack.enter_context(connected(url)) for _ in range(150)]
        for connection in begun:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")

        assert httpx2.get(f"{url}/livez").status_code == 200
        assert [rest(connection) for connection in silent] == [b""] * 150
        assert all(rest(connection).startswith(b"HTTP/1.1 408 ") for connection in begun)


@pytest.mark.parametrize("piece", [b"x", b"\r\n", b"X-Header: 1\r\n"])
def test_a_head_that_trickles_is_waited_for_no_longer(url: str, piece: bytes) -> None:
    with connected(url) as connection:
        if not piece.isspace():
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        answer = trickle(connection, piece)

    assert answer == b"" or answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))


def test_blank_lines_behind_an_answer_keep_no_connection_open(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert trickle(connection, b"\r\n").startswith((b"", b"HTTP/1.1 408 "))


def test_a_head_without_end_is_refused(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        answer = b""
        try:
            for n in range(100):
                connection.sendall(b"X-%d: " % n + b"a" * 10_000 + b"\r\n")
            answer = rest(connection)
        except (BrokenPipeError, ConnectionResetError):
            pass

    assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert httpx2.get(f"{url}/livez").status_code == 200


@pytest.mark.parametrize("framing", [b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_that_trickles_is_cut_off(url: str, framing: bytes) -> None:
    piece = b"1\r\n \r\n" if b"chunked" in framing else b" "
    with connected(url) as connection:
        connection.sendall(HEAD + framing)
        answer = trickle(connection, piece)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_never_comes_is_cut_off(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n{")

        assert rest(connection).startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_nobody_takes_is_given_up(url: str) -> None:
    with connected(url, receive_bytes=4096) as connection:
        connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 10)
        poll = select.poll()
        poll.register(connection, select.POLLERR | select.POLLHUP)

        assert eventually(lambda: poll.poll(100) or None), "the server has reset the connection"


def test_a_client_in_good_time_may_use_its_connection_again(url: str) -> None:
    with httpx2.Client() as client:
        for _ in range(3):
            assert client.get(f"{url}/livez").status_code == 200
            assert client.post(f"{url}/v1/jobs", json={}).status_code in {401, 422}


def test_connections_beyond_the_limit_are_refused(sqlite_template: Path, tmp_path: Path) -> None:
    with listening(sqlite_template, tmp_path, max_connections=16) as url, ExitStack() as stack:
        held = [stack.enter_context(connected(url)) for _ in range(15)]
        assert eventually(lambda: _status(url) == 503 or None)
        crowd = [stack.enter_context(connected(url)) for _ in range(100)]
        assert sum(_closed(connection) for connection in crowd) >= 20
        for connection in [*held, *crowd]:
            connection.close()
        assert eventually(lambda: _status(url) == 200 or None)


def _status(url: str) -> int | None:
    try:
        return httpx2.get(f"{url}/livez").status_code
    except httpx2.TransportError:
        return None


def _closed(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0.02)
    try:
        return bool(readable) and connection.recv(1) == b""
    except ConnectionResetError:
        return True
