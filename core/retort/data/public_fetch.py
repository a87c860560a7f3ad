"""Fetch a file by URL from public addresses."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2 as httpx

from retort.addresses import AddressError, Lookup, Network, PublicAddress, look_up, resolve_public
from retort.errors import DataError, FetchError

MOST_REDIRECTS = 5
_CHUNK_BYTES = 1 << 16
_Trace = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits on size, time and place of a download."""

    most_bytes: int
    most_s: float = 3600.0
    """For everything: a server that sends a byte now and then comes to an end too."""
    idle_s: float = 30.0
    trusted: Sequence[Network] = ()
    """Networks of the operator's that are no public ones."""


def fetch_public(
    url: str,
    path: Path,
    limits: FetchLimits,
    *,
    lookup: Lookup = look_up,
    verify: ssl.SSLContext | bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Download *url* to the new file *path*, over https alone.

    Each host is looked up once, the address is checked and connected to, and a redirect is another URL to be checked.
    No proxy, cookie, password or certificate of this machine's is used. Nothing is left of what breaks off.

    Raises:
        AddressError: the URL, or one that it leads to, is not one of a public host.
        DataError: it gives more bytes than the limits allow.
        FetchError: it could not be fetched, or not in time.

    """
    deadline = clock() + limits.most_s
    try:
        with (
            _cut_off(limits.most_s) as trace,
            httpx.Client(trust_env=False, verify=verify, timeout=limits.idle_s, follow_redirects=False) as client,
        ):
            for _ in range(MOST_REDIRECTS + 1):
                place = resolve_public(url, trusted=limits.trusted, lookup=lookup)
                moved = _received(client, place, path, limits, late=lambda: clock() > deadline, trace=trace)
                if moved is None:
                    return
                url = urljoin(url, moved)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        path.unlink(missing_ok=True)
        reason = str(error) or type(error).__name__
        raise FetchError(f"could not fetch the URL: {reason}", hint="look whether it can be reached") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    raise AddressError(f"the URL cannot be used: more than {MOST_REDIRECTS} redirects", hint="name where it ends")


@contextmanager
def _cut_off(seconds: float) -> Iterator[_Trace]:
    """Cut all connections that httpx tells of after *seconds*.

    Its own limits are those of one wait: a server that sends a byte of its head now and then would hold on for days.
    """
    held: list[socket.socket] = []

    def trace(event: str, told: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            held.append(told["return_value"].get_extra_info("socket").dup())

    def cut() -> None:
        for one in held:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield trace
    finally:
        timer.cancel()
        timer.join()
        for one in held:
            one.close()


def _received(
    client: httpx.Client,
    place: PublicAddress,
    path: Path,
    limits: FetchLimits,
    *,
    late: Callable[[], bool],
    trace: _Trace,
) -> str | None:
    """Write the answer to *path*, or return where it has moved."""
    headers, extensions = {**place.headers, "Accept-Encoding": "identity"}, {**place.extensions, "trace": trace}
    with client.stream("GET", place.pinned_url, headers=headers, extensions=extensions) as answer:
        if answer.has_redirect_location:
            return answer.headers["Location"]
        if answer.status_code != httpx.codes.OK:
            raise FetchError(f"could not fetch the URL: it answers {answer.status_code}", hint="look at its spelling")
        size = 0
        with path.open("xb") as file:
            for chunk in answer.iter_raw(_CHUNK_BYTES):
                size += len(chunk)
                if size > limits.most_bytes:
                    raise DataError(f"the URL gives more than {limits.most_bytes >> 20} MiB", hint="that is the limit")
                if late():
                    raise FetchError(f"the URL took longer than {limits.most_s:g} s", hint="try again, or upload it")
                file.write(chunk)
    return None
