"""Run Alembic migrations from the checkout or the wheel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from retort.db.session import Database, as_database_unavailable

_LOCK = 0x7265746F7274  # "retort": PostgreSQL's advisory lock for migrations
_TURN = threading.Lock()  # Alembic's context is one per process


def folder() -> Path:
    """Return the folder of the database revisions.

    It is ``retort/db/_migrations`` in the wheel, and at the top in a checkout.
    """
    here = Path(__file__).resolve().parent
    packed = here / "_migrations"
    return packed if packed.is_dir() else here.parents[2] / "migrations"


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration; *connection* carries the statements."""
    made = Config()
    made.set_main_option("script_location", str(folder()).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def upgrade(database: Database, revision: str = "head") -> None:
    """Apply the revisions up to *revision*, in one transaction.

    It is safe from several processes at a time. SQLite's file is made where there is none.
    """
    if database.engine.dialect.name == "sqlite" and database.url.database:
        Path(database.url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(database) as connection:
        command.upgrade(config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Undo the revisions down to *revision*, in one transaction.

    *revision* is ``base``, ``-1`` or an id.
    """
    with _alone(database) as connection:
        command.downgrade(config(connection), revision)


def current(database: Database) -> str | None:
    """Return the revision of the tables; None without any tables."""
    with as_database_unavailable(), database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """Return the latest revision."""
    latest = ScriptDirectory.from_config(config()).get_current_head()
    assert latest is not None, "there is a revision"
    return latest


@contextmanager
def _alone(database: Database) -> Iterator[Connection]:
    """Keep other processes from migrating at the same time."""
    # SQLite locks the whole file by BEGIN IMMEDIATE.
    writing = database.engine.execution_options(retort_begin="BEGIN IMMEDIATE")
    with _TURN, as_database_unavailable(), writing.begin() as connection:
        if database.engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        yield connection
