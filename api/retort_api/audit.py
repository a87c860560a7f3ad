"""Write down who changes what through the API, and who is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque

import structlog
from retort.access import Principal
from retort.db import Database, DatabaseUnavailable, audit
from retort.db.audit import Act
from retort.db.session import database_now
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Scope, Send

_REFUSED = 400
_FAILED = 500
_TOO_MANY = 429
_BATCH = 200
"""Refusals that are written at once."""
_MOST = 10_000
"""Refusals that are kept while the database is away."""
_DELAY_S = 0.5
"""So long a refusal waits for others."""
_AWAY_S = 5.0
"""So long nobody tries a database again that was away."""
_log = structlog.get_logger("retort.api")


def address_of(scope: Scope) -> str:
    """Return the client's address."""
    client = scope.get("client")
    return client[0] if client else ""


def act_of(caller: Principal, action: str, scope: Scope) -> Act:
    """Return what *caller* is about to do, for the audit log."""
    target = "/".join(str(value) for value in scope.get("path_params", {}).values())
    return Act(
        project=caller.project, owner=caller.owner, key_id=caller.key_id, action=action, target=target,
        address=address_of(scope), request_id=scope.get("state", {}).get("request_id", ""),
    )  # fmt: skip


class RefusalLog:
    """Refusals on their way to the audit log, many in one transaction.

    They change nothing, so nobody has to wait for them: they are written within a second, when the log is read, at
    shutdown, and at once where many wait. What the database cannot take now is kept for later.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[float, Act, str]] = deque()
        self._turn = threading.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._not_before = 0.0

    async def add(self, act: Act, outcome: str) -> None:
        """Have it written down that somebody was refused."""
        self._waiting.append((time.monotonic(), act, outcome))
        if time.monotonic() < self._not_before:
            return
        if len(self._waiting) >= _BATCH:
            await run_in_threadpool(self.flush)
        elif self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_soon())

    async def close(self) -> None:
        """Write what still waits."""
        if self._writing is not None and not self._writing.done():
            self._writing.cancel()
        await run_in_threadpool(self.flush)

    def flush(self) -> None:
        """Write all that waits, in the order in which it came."""
        with self._turn:
            while batch := [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]:
                try:
                    self._write(batch)
                except DatabaseUnavailable:
                    self._waiting.extendleft(reversed(batch))
                    self._drop_oldest()
                    self._not_before = time.monotonic() + _AWAY_S
                    return  # a later refusal, or who reads the log, tries again

    async def _write_soon(self) -> None:
        await asyncio.sleep(_DELAY_S)
        await run_in_threadpool(self.flush)

    def _write(self, batch: list[tuple[float, Act, str]]) -> None:
        with audit.acting(None), self._database.begin() as session:
            now, here = database_now(session), time.monotonic()
            for at, act, outcome in batch:
                audit.write(session, act, now=now - (here - at), outcome=outcome)

    def _drop_oldest(self) -> None:
        lost = len(self._waiting) - _MOST
        for _ in range(lost):
            self._waiting.popleft()
        if lost > 0:
            _log.error("audit_entries_lost", entries=lost, error="the database has been away for too long")


def keep_outcome(send: Send, refusals: RefusalLog, act: Act) -> Send:
    """Return *send* that has each refusal written down."""

    async def kept(message: Message) -> None:
        status = message["status"] if message["type"] == "http.response.start" else 0
        if _REFUSED <= status < _FAILED and status != _TOO_MANY:
            await refusals.add(act, f"refused_{status}")
        await send(message)

    return kept
