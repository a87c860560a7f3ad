"""Wrap every request: id, log line, metrics, headers, last-resort error."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from fastapi import Request
from retort.logs import LineLimit
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retort_api import errors
from retort_api.metrics import ServiceMetrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_EVENT_STREAM = "text/event-stream"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED = "unmatched"
"""Route of requests for addresses that do not exist: their paths are not ours to count by."""
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})
NOTHING_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
"""For all that is no page: where a browser shows it all the same, it can do nothing."""
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-permitted-cross-domain-policies", b"none"),
)
_OTHERWISE = (
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", NOTHING_POLICY.encode()),
    (b"cache-control", b"no-cache"),
)
"""Headers of answers that say nothing else."""
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED_LOOKS = 10
"""Lines in a minute about looks that are refused, for each status."""
_log = structlog.get_logger("retort.api")


class RequestMiddleware:
    """Middleware around the whole application, independent of all routes."""

    def __init__(self, app: ASGIApp, telemetry: ServiceMetrics) -> None:
        self._app = app
        self._telemetry = telemetry
        self._refused = LineLimit(_REFUSED_LOOKS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _RequestLog(scope, send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            try:
                await self._app(scope, receive, exchange.send)
            except ClientDisconnect:
                pass
            except Exception as error:
                _log.exception("unforeseen_error", method=scope["method"], path=scope["path"])
                if exchange.status is not None:
                    raise  # the server cuts the connection, which tells the client that something is missing
                await errors.internal(Request(scope), error)(scope, receive, exchange.send)
            finally:
                self._record(exchange)

    def _record(self, exchange: _RequestLog) -> None:
        scope, duration_s = exchange.scope, time.monotonic() - exchange.begun
        if exchange.status is not None:
            route = getattr(scope.get("route"), "path", _UNMATCHED)
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._telemetry.requests.labels(method, route, str(exchange.status)).inc()
            if exchange.media_type != _EVENT_STREAM:  # a stream lasts as long as people watch
                self._telemetry.seconds.labels(method, route).observe(duration_s)
        left_out = self._left_out(scope["method"], scope["path"], exchange.status)
        write = _log.debug if left_out is None else _log.info
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=exchange.status,
            duration_ms=round(duration_s * 1000, 1),
            size_bytes=exchange.size_bytes,
            **({"left_out": left_out} if left_out else {}),
        )

    def _left_out(self, method: str, path: str, status: int | None) -> int | None:
        """Return how many lines like this one were left out before.

        None where it is for debugging alone. Clients that poll look thousands of times, also at what is not there.
        """
        if path in _PROBES or (method in _READING and status is not None and status < 400):
            return None
        return self._refused.passed(status) if method in _READING else 0


class _RequestLog:
    """One request, and what has been sent of its answer."""

    def __init__(self, scope: Scope, send: Send) -> None:
        offered = Headers(scope=scope).get("x-request-id", "")
        self.request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = self.request_id
        self.scope = scope
        self.begun = time.monotonic()
        self.status: int | None = None
        self.media_type = ""
        self.size_bytes = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        elif message["type"] == "http.response.body":
            if self.scope["method"] == "HEAD":
                message = {**message, "body": b""}
            self.size_bytes += len(message.get("body", b""))
        await self._send(message)

    def _begin(self, message: Message) -> None:
        self.status = message["status"]
        said = dict(message["headers"])
        self.media_type = said.get(b"content-type", b"").partition(b";")[0].decode("latin-1")
        rates = self.scope["state"].get("rate_headers", {}).items()
        ours = dict((*_ALWAYS, *((name.lower().encode(), value.encode()) for name, value in rates)))
        ours[b"x-request-id"] = self.request_id.encode()
        message["headers"] = [
            *(pair for pair in message["headers"] if pair[0] not in ours),
            *ours.items(),
            *(pair for pair in _OTHERWISE if pair[0] not in said),
        ]
