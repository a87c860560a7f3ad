"""Shrink the files of database and embedded broker."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import make_url, text

from retort.db.session import Database, as_database_unavailable

_PAGES = 2000
"""Free pages that are given back at a time, so that no writer waits for long."""
_WORTH_BYTES = 16 << 20
"""A file that cannot shrink page by page is written out again from so many free bytes on."""
_INCREMENTAL = 2
_UNREAD_S = 86_400.0
"""A notification that nobody has read for so long wakes nobody: workers poll."""


def shrink(database: Database) -> int:
    """Give back free pages of SQLite's file; return the bytes.

    PostgreSQL reuses them by itself.
    """
    if database.engine.dialect.name != "sqlite" or not database.url.database:
        return 0
    with as_database_unavailable(), _open(Path(database.url.database)) as connection:
        return _shrink(connection)


def tidy_broker(url: str) -> int:
    """Delete the embedded broker's old messages; return their number.

    They have been read, or are too old to be.
    """
    path = _sqlite_file(url)
    if path is None or not path.is_file():
        return 0
    with _open(path) as connection:
        try:
            read = connection.execute("DELETE FROM kombu_message WHERE visible = 0").rowcount
            old = "DELETE FROM kombu_message WHERE timestamp < datetime('now', ?)"
            unread = connection.execute(old, (f"-{_UNREAD_S:.0f} seconds",)).rowcount
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return 0  # nobody has used it yet, or somebody does right now
            raise
        _shrink(connection)
    return max(read, 0) + max(unread, 0)


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


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        yield connection


def _shrink(connection: sqlite3.Connection) -> int:
    """Give back free pages in small steps; write a file of an earlier version out again once."""

    def ask(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    before, page_bytes = ask("page_count"), ask("page_size")
    free = ask("freelist_count")
    try:
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
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise
    return (before - ask("page_count")) * page_bytes
