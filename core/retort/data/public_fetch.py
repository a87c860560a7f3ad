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

from retort.addresses import AddressError, Lookup, Network, check_url, look_up, resolve_public
from retort.errors import DataError, FetchError

MOST_REDIRECTS = 5
_Trace = Callable[[str, dict[str, Any]], None]


def _ignore(received: int, total: int | None) -> None:
    del received, total


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits on size, time, speed and place of a download."""

    most_bytes: int
    most_s: float = 3600.0
    """For everything: a server that sends a byte now and then comes to an end too."""
    idle_s: float = 30.0
    least_bytes_s: float = 0.0
    """Bytes in a second, on average after *idle_s*; what is slower is given up."""
    trusted: Sequence[Network] = ()
    """Networks of the operator's that are no public ones."""
    hosts: Sequence[str] = ("*",)
    """Names of the hosts, redirects included; see ``addresses.is_named``."""


@dataclass(slots=True)
class _Download:
    """A file on its way, which goes on where it was cut."""

    path: Path
    limits: FetchLimits
    deadline: float
    clock: Callable[[], float]
    told: Callable[[int, int | None], None]
    size: int = 0
    version: str | None = None
    """What the server calls this version of the file; without it nothing is gone on with."""

    def headers(self) -> dict[str, str]:
        """Ask for the rest, if it is that of the same file."""
        plain = {"Accept-Encoding": "identity"}
        if not self.size or self.version is None:
            return plain
        return {**plain, "Range": f"bytes={self.size}-", "If-Range": self.version}

    def take(self, answer: httpx.Response) -> None:
        """Write the answer behind what is there, or in its place.

        Raises:
            DataError: it has more bytes than the limits allow.
            FetchError: it is no file, or does not come in time.

        """
        if answer.status_code not in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
            raise FetchError(f"could not fetch the URL: it answers {answer.status_code}", hint="look at its spelling")
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {self.size}-"):
            raise FetchError("could not fetch the URL: it answers with another range", hint="try again, or upload it")
        if not goes_on:
            self.size, self.version = 0, _version(answer)
        declared = answer.headers.get("Content-Length", "")
        total = self.size + int(declared) if declared.isdecimal() else None
        self._check(total or 0)
        began, before = self.clock(), self.size
        self.told(self.size, total)
        with self.path.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_raw():
                self._check(self.size + len(chunk))
                file.write(chunk)
                self.size += len(chunk)
                self._hurry(self.clock(), began, self.size - before)
                self.told(self.size, total)

    def _check(self, size: int) -> None:
        most = self.limits.most_bytes
        if size > most:
            raise DataError(f"the URL gives more than {most >> 20} MiB", hint="that is the limit")

    def _hurry(self, now: float, began: float, size: int) -> None:
        limits, took = self.limits, now - began
        if now > self.deadline:
            raise FetchError(f"the URL took longer than {limits.most_s:g} s", hint="try again, or upload it")
        if took > limits.idle_s and size < took * limits.least_bytes_s:
            raise FetchError(f"the URL gives less than {limits.least_bytes_s:g} bytes in a second", hint="upload it")


def _version(answer: httpx.Response) -> str | None:
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else None


def fetch_public(
    url: str,
    path: Path,
    limits: FetchLimits,
    *,
    told: Callable[[int, int | None], None] = _ignore,
    lookup: Lookup = look_up,
    verify: ssl.SSLContext | bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Download *url* to the new file *path*, over https alone.

    Each host is looked up once, the address is checked and connected to, and a redirect is another URL to be checked.
    No proxy, cookie, password or certificate of this machine's is used. A download that breaks off is gone on with,
    where the server can; nothing is left of one that fails. *told* hears the bytes that are there and, where the server
    says, those there are to be.

    Raises:
        AddressError: the URL, or one that it leads to, is not one of a public host.
        DataError: it gives more bytes than the limits allow.
        FetchError: it could not be fetched, or not in time.

    """
    with path.open("xb"):
        pass
    loading = _Download(path, limits, clock() + limits.most_s, clock, told)
    try:
        with (
            _cut_off(limits.most_s) as trace,
            httpx.Client(trust_env=False, verify=verify, timeout=limits.idle_s, follow_redirects=False) as client,
        ):
            while True:
                before = loading.size
                try:
                    return _follow(client, url, loading, lookup, trace)
                except httpx.TransportError:
                    if loading.size <= before or loading.version is None or clock() > loading.deadline:
                        raise
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        path.unlink(missing_ok=True)
        reason = str(error) or type(error).__name__
        raise FetchError(f"could not fetch the URL: {reason}", hint="look whether it can be reached") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _follow(client: httpx.Client, url: str, loading: _Download, lookup: Lookup, trace: _Trace) -> None:
    """Ask for the file, or its rest, wherever redirects lead."""
    for _ in range(MOST_REDIRECTS + 1):
        check_url(url, loading.limits.hosts)
        place = resolve_public(url, trusted=loading.limits.trusted, lookup=lookup)
        headers, extensions = {**place.headers, **loading.headers()}, {**place.extensions, "trace": trace}
        with client.stream("GET", place.pinned_url, headers=headers, extensions=extensions) as answer:
            if not answer.has_redirect_location:
                return loading.take(answer)
            url = urljoin(url, answer.headers["Location"])
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
