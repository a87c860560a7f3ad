"""Shrink the files of database and embedded broker."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url, text

from retort.db.session import Database

_PAGES = 2000
"""Free pages that are given back at a time, so that no writer waits for long."""
_WORTH_BYTES = 16 << 20
"""A file that cannot shrink page by page is written out again from so many free bytes on."""
_INCREMENTAL = 2
_WAIT_S = 30.0
_LATER = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL}
_UNREAD_S = 86_400.0
"""A notification that nobody has read for so long wakes nobody: workers poll."""


def shrink(database: Database) -> int:
    """Give back free pages of SQLite's file; return the bytes.

    PostgreSQL reuses them by itself.
    """
    if database.engine.dialect.name != "sqlite" or not database.url.database:
        return 0
    return _unless_busy(Path(database.url.database), _shrink)


def tidy_broker(url: str) -> int:
    """Delete the embedded broker's old messages; return their number.

    They have been read, or are too old to be.
    """
    path = _sqlite_file(url)
    return _unless_busy(path, _tidy) if path is not None and path.is_file() else 0


def file_bytes(url: str) -> int:
    """Return the bytes of an SQLite database's files; 0 for one on a server."""
    path = _sqlite_file(url)
    if path is None:
        return 0
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*") if part.is_file())


def size_bytes(database: Database) -> int:
    """Return the bytes that the database takes, on either kind."""
    if database.engine.dialect.name == "sqlite":
        return file_bytes(str(database.url))
    with database.read() as session:
        return int(session.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def _sqlite_file(url: str) -> Path | None:
    parsed = make_url(url.removeprefix("sqla+"))
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def _unless_busy(path: Path, work: Callable[[sqlite3.Connection], int]) -> int:
    """Return what *work* does to a file; 0 where others are at it or the disk is full: a later round does it."""
    with closing(sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)) as connection:
        try:
            return work(connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _LATER:
                raise
            return 0


def _tidy(connection: sqlite3.Connection) -> int:
    """Delete messages that are read or too old, and shrink the file."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kombu_message'").fetchone() is None:
        return 0  # nobody has used it yet
    read = connection.execute("DELETE FROM kombu_message WHERE visible = 0").rowcount
    old = "DELETE FROM kombu_message WHERE timestamp < datetime('now', ?)"
    unread = connection.execute(old, (f"-{_UNREAD_S:.0f} seconds",)).rowcount
    _shrink(connection)
    return max(read, 0) + max(unread, 0)


def _shrink(connection: sqlite3.Connection) -> int:
    """Give back free pages in small steps; write a file of an earlier version out again once."""

    def ask(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    before, page_bytes = ask("page_count"), ask("page_size")
    free = ask("freelist_count")
    if ask("auto_vacuum") == _INCREMENTAL:
        while free > 0:
            connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
            left = ask("freelist_count")
            if left >= free:
                break
            free = left
            time.sleep(0)
    elif free * page_bytes >= _WORTH_BYTES:
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return (before - ask("page_count")) * page_bytes
