"""Bound the time, the bytes and the number of connections."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from asyncio.events import TimerHandle
from typing import Any

import structlog
from retort.logs import LineLimit
from retort.settings import Settings
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEAD_LIMIT = 64 * 1024
"""Largest request head in bytes; the parser knows no limit."""
SLOWEST_BYTES_PER_S = 1024
"""Slowest pace of a body that is waited for."""
_SPARE_FILES = 256
"""Files that the process needs beside its connections."""
_SPARE_CONNECTIONS = 64
"""Connections beyond the limit that are still told that there are too many."""
_AT_ONCE = struct.pack("ii", 1, 0)
_HEADERS = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
_log = structlog.get_logger("retort.api")
_cut = LineLimit(10)


def server_config(app: Any, settings: Settings, **options: Any) -> Config:
    """Return uvicorn's configuration with the limits of *settings*."""

    class Protocol(BoundedProtocol):
        head_timeout_s = settings.head_timeout_s
        transfer_timeout_s = settings.transfer_timeout_s

    return Config(
        app,
        http=Protocol,
        ws="none",
        proxy_headers=False,  # the application does this itself, for the configured proxies alone
        limit_concurrency=settings.max_connections,
        log_config=None,
        access_log=False,
        server_header=False,
        **options,
    )


def allow_open_files(connections: int) -> None:
    """Raise the process's limit of open files to what *connections* need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    wanted = connections + _SPARE_FILES
    possible = wanted if unlimited else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        _log.warning("few_open_files", limit=possible, wanted=wanted, effect="fewer connections than configured")


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol, which alone would wait for ever for requests.

    A head has to arrive in time and within a size, whatever is sent before it; a body keeps up a pace, but for the time
    in which the application does not take it; an answer is taken at all. Else the connection is closed.
    """

    head_timeout_s = 10.0
    transfer_timeout_s = 30.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head: TimerHandle | None = None
        self._body: TimerHandle | None = None
        self._writing: TimerHandle | None = None
        self._bytes = 0
        """Received of the head or, since the last look, of the body."""
        self._in_body = False
        self._under_way: RequestResponseCycle | None = None
        self._ended = False
        """Whether the bytes that arrived last were the end of a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are far too many."""
        super().connection_made(transport)
        if len(self.connections) > self.config.limit_concurrency + _SPARE_CONNECTIONS:  # type: ignore[operator]
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop(self._head, self._body, self._writing)
        # uvicorn tells the latest request alone, which is not the one under way where a client has sent several.
        self.pipeline.clear()
        if self._under_way is not None:
            self._under_way.disconnected = True
            self._under_way.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, and await the rest."""
        self._ended = False
        self._bytes += len(data)
        super().data_received(data)
        if self._in_body:
            self._body = self._body or self.loop.call_later(self.transfer_timeout_s, self._look_at_body)
        elif not self._ended:
            self._expect_head()
            if self._bytes > HEAD_LIMIT:
                self._refuse(431, "The request's head is too large.")

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._ended = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin a body."""
        self._stop(self._head)
        self._head, self._in_body, self._bytes = None, True, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        self._stop(self._body)
        self._body, self._in_body, self._ended, self._bytes = None, False, True, 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait until the client takes more, but not for ever."""
        super().pause_writing()
        self._writing = self.loop.call_later(self.transfer_timeout_s, self._abort)

    def resume_writing(self) -> None:
        """Go on sending."""
        self._stop(self._writing)
        self._writing = None
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._under_way = cycle
        super()._start_asgi_task(cycle, app)

    def _expect_head(self) -> None:
        self._head = self._head or self.loop.call_later(self.head_timeout_s, self._end_head)

    def _stop(self, *timers: TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()

    def _end_head(self) -> None:
        self._head = None
        if self._bytes:
            self._refuse(408, "The request's head did not arrive in time.")
        else:
            self._abort()

    def _look_at_body(self) -> None:
        """Cut off a client that sends too slowly, though more is asked for."""
        asked_for = not self.flow.read_paused and not self.cycle.waiting_for_100_continue
        if asked_for and self._bytes < SLOWEST_BYTES_PER_S * self.transfer_timeout_s:
            self._body = None
            self._refuse(408, "The request's body arrives too slowly.")
            return
        self._bytes = 0
        self._body = self.loop.call_later(self.transfer_timeout_s, self._look_at_body)

    def _refuse(self, status: int, why: str) -> None:
        """Say why and close; where an answer has begun already, it is cut."""
        self._note(why)
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            head = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(
                why
            )
            self.transport.write(STATUS_LINE[status] + head + why.encode())
        self.transport.close()

    def _abort(self) -> None:
        """Close at once, whatever the system still holds of an answer."""
        self._note("nothing was sent or taken in time")
        plug = self.transport.get_extra_info("socket")
        if plug is not None and plug.fileno() >= 0:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _note(self, why: str) -> None:
        if (left_out := _cut.passed(why)) is not None:
            _log.info("connection_cut", why=why, client=self.client[0] if self.client else None, left_out=left_out)
