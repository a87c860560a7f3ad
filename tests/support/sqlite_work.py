"""Count what SQLite does for a request: statements, and the steps of its machine, which no busy machine changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event

_STEPS = 50
"""Of SQLite's machine, between two calls of its progress handler."""


@dataclass
class SqliteWork:
    """What has been done since the counting began."""

    statements: int = 0
    steps: int = 0


@contextmanager
def counted(engine: Engine) -> Iterator[SqliteWork]:
    """Count the work of all connections of *engine*."""
    work = SqliteWork()

    def count() -> int:
        work.steps += _STEPS
        return 0

    def watch(connection: Any, *_: Any) -> None:
        work.statements += 1
        connection.connection.dbapi_connection.set_progress_handler(count, _STEPS)

    def rest(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(None, 0)

    event.listen(engine, "before_cursor_execute", watch)
    event.listen(engine, "checkin", rest)
    yield work
    event.remove(engine, "before_cursor_execute", watch)
    event.remove(engine, "checkin", rest)
