"""Decide which requests are repeated, and after which pause."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx

from retort.client.calls import Call
from retort.client.transport import ClientError, unreachable, worth_repeating

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_HARMLESS = re.compile(
    r"/v1/(jobs/[^/]+(/(cancel|pause|resume|stop|predict|review/(complete|import)))?"
    r"|sweeps/[^/]+(/cancel)?|validate|models|artifacts/[^/]+/download-url|.+/restore|datasets"
    r"|uploads(/(fetch|[^/]+/(complete|links)))?)"
)
"""Addresses at which POST and PATCH do nothing more when they are repeated."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_REFUSED_UNREAD = 429


def is_repeatable(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Return True if a request is harmless to carry out twice."""
    names = {name.lower() for name in headers}
    if "if-match" in names:  # the second would meet what the first has made
        return False
    return method in _IDEMPOTENT or "idempotency-key" in names or _HARMLESS.fullmatch(path) is not None


@dataclass(slots=True)
class Repeats:
    """Attempts at one request, until one succeeds or patience ends.

    What may have been carried out is sent again only where that is harmless; what was never sent, or refused as too
    much, always.
    """

    url: str
    """Of the service, for the error."""
    patience_s: float
    repeatable: bool
    now: Callable[[], float] = time.monotonic
    _deadline: float = field(init=False)
    _next_s: float = field(default=FIRST_PAUSE_S, init=False)

    def __post_init__(self) -> None:
        self._deadline = self.now() + self.patience_s

    def pause_after(self, error: httpx.TransportError | ClientError) -> float:
        """Return the seconds to wait before the request is sent again.

        Raises:
            ClientError: it is not sent again.

        """
        pause_s = self._next_s * random.uniform(0.5, 1.0)  # noqa: S311 - clients are to come back one by one
        self._next_s = min(self._next_s * 2, LONGEST_PAUSE_S)
        asked_s = error.retry_after_s if isinstance(error, ClientError) else None
        pause_s = max(pause_s, asked_s or 0.0)
        if not self._may_repeat(error) or self.now() + pause_s > self._deadline:
            raise unreachable(self.url, error) from error
        return pause_s

    def _may_repeat(self, error: httpx.TransportError | ClientError) -> bool:
        if not worth_repeating(error):
            return False
        unread = isinstance(error, _NOT_SENT) or getattr(error, "status", None) == _REFUSED_UNREAD
        return self.repeatable or unread


def repeats_of(call: Call[Any], url: str, patience_s: float) -> Repeats:
    """Return the attempts at a call to the service at *url*."""
    return Repeats(url, patience_s, is_repeatable(call.method, call.path, call.options.get("headers", {})))
