"""Talk to SQLite and PostgreSQL alike: transactions, inserts, the database's clock."""

from __future__ import annotations

import select
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, exc, insert, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from retort.db import audit
from retort.db.models import Base, Owned
from retort.errors import TransientError, UserError
from retort.files import create_private

BUSY_TIMEOUT_S = 30.0
"""How long a transaction waits for its turn before it gives up."""
IDLE_TIMEOUT_S = 10.0
"""PostgreSQL ends a transaction whose client says nothing for so long; busy machines were seen to stand still for 5."""


class DatabaseUnavailable(TransientError):
    """The database cannot be reached, is being restarted, or is too busy."""

    code = "database_unavailable"


class Database:
    """A pool of connections; ``begin`` writes, ``read`` sees one unchanging moment.

    A write transaction takes the lock before its first statement, so it never fails half way because
    another writer was faster; a read transaction never waits for a writer nor holds one up.
    """

    def __init__(
        self, url: str, *, pool_size: int = 20, limits: object = None, max_queue_s: float | None = None
    ) -> None:  # fmt: skip
        self._about = {"max_queue_s": max_queue_s} | ({} if limits is None else {"limits": limits})
        self.url = _with_driver(_parsed(url))
        self.engine = create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=BUSY_TIMEOUT_S,
            pool_use_lifo=True,
            json_serializer=_json,
            connect_args=_postgres_options(self.url) if self.url.get_backend_name() == "postgresql" else {},
        )
        if self.engine.dialect.name == "sqlite":
            _prepare_sqlite(self.engine)
            self._writing: Engine = self.engine.execution_options(retort_begin="BEGIN IMMEDIATE")
            self._reading: Engine = self.engine
            self._glancing: Engine = self.engine
            # SQLite's waiters poll; threads of one process can simply queue.
            self._turn: AbstractContextManager[Any] = _WriterLock()
        else:
            event.listen(self.engine, "checkout", _refuse_closed)
            self._writing = self.engine
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._glancing = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            self._turn = nullcontext()

    @contextmanager
    def begin(self, *, project: str | None = None) -> Iterator[Session]:
        """Open one write transaction.

        It is committed on leaving, rolled back when an exception leaves with it. With a *project*, statements on mapped
        classes find no rows of another. The audit log gets an entry for the first one of a request, and for each later
        one that changes something.

        Raises:
            DatabaseUnavailable: nothing was written, or, if the connection broke during the commit, it may have been.

        """
        with (
            as_database_unavailable(),
            self._turn,
            _session(self._writing, project, self._about) as session,
            session.begin(),
        ):
            act = audit.present()
            before = _row_changes(session) if act is not None and act.written else 0
            yield session
            if act is not None and (not act.written or _row_changes(session) != before):
                audit.write(session, act, now=database_now(session))
        if act is not None:
            act.written = True

    @contextmanager
    def read(self, *, project: str | None = None) -> Iterator[Session]:
        """Open a read-only transaction; all its statements see the same moment.

        With a *project*, they find no rows of another.

        Raises:
            DatabaseUnavailable: try again later.

        """
        with as_database_unavailable(), _session(self._reading, project, self._about) as session, session.begin():
            yield session

    @contextmanager
    def autocommit_read(self) -> Iterator[Session]:
        """Open an autocommit session for reads; saves two round trips over ``read``.

        Raises:
            DatabaseUnavailable: try again later.

        """
        with as_database_unavailable(), Session(self._glancing, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Close the idle connections."""
        self.engine.dispose()


def _row_changes(session: Session) -> int:
    """Return a number that grows when this transaction changes a row."""
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        return int(driver.total_changes)
    return int(connection.execute(text("SELECT (pg_current_xact_id_if_assigned() IS NOT NULL)::int")).scalar_one())


class _ProjectSession(Session):
    """A session that sees the rows of one project."""


def _session(engine: Engine, project: str | None, about: Mapping[str, Any]) -> Session:
    if project is None:
        return Session(engine, expire_on_commit=False, info=dict(about))
    return _ProjectSession(engine, expire_on_commit=False, info={**about, "project": project})


@event.listens_for(_ProjectSession, "do_orm_execute")
def _keep_to_project(state: ORMExecuteState) -> None:
    """Narrow every statement on mapped classes, so that none can be forgotten."""
    project = state.session.info["project"]
    narrowed = with_loader_criteria(Owned, lambda row: row.project == project, include_aliases=True)
    state.statement = state.statement.options(narrowed)


class _WriterLock:
    """A lock between the writing threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=BUSY_TIMEOUT_S):
            raise DatabaseUnavailable("the database is busy: another transaction has been writing for too long")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _parsed(url: str) -> URL:
    """Read the database's address; what is wrong with it is told without it."""
    try:
        return make_url(url)
    except (exc.ArgumentError, ValueError):
        hint = "postgresql+psycopg://user@host/name; a password with @ / # % goes into RETORT_DATABASE_PASSWORD"
        raise UserError("RETORT_DATABASE_URL is no readable address", hint=hint, code="bad_settings") from None


def _with_driver(url: URL) -> URL:
    """Take the plain ``postgresql://`` of other tools for our driver's."""
    return url.set(drivername="postgresql+psycopg") if url.drivername in {"postgresql", "postgres"} else url


def _postgres_options(url: URL) -> dict[str, Any]:
    """Let no one wait for ever, neither us for a server that is cut off nor others for us.

    A worker that is stopped in the middle of a transaction would keep its job's row from the reaper.
    """
    limits = {"idle_in_transaction_session_timeout": IDLE_TIMEOUT_S, "lock_timeout": BUSY_TIMEOUT_S}
    wished = {name: str(int(seconds * 1000)) for name, seconds in limits.items()}
    wished["jit"] = "off"  # compiling takes longer than any statement of ours
    options = " ".join(f"-c {name}={value}" for name, value in wished.items())
    reach = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}
    # A server made in the C locale would otherwise answer in bytes.
    wanted = {**reach, "tcp_user_timeout": 15_000, "options": options, "client_encoding": "utf8"}
    return {name: value for name, value in wanted.items() if name not in url.query}


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool replace a connection that the server has closed: it would be readable before anything was asked.

    Unlike a ping it costs no round trip.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLHUP)
    if poll.poll(0):
        raise exc.DisconnectionError("the server has closed the connection")


def _json(value: Any) -> str:
    return to_json(value, inf_nan_mode="null").decode()


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "do_connect")
    def _protect(_dialect: object, _record: object, arguments: list[Any], _options: object) -> None:
        if arguments and str(arguments[0]) != ":memory:":
            create_private(Path(arguments[0]))

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions behind our back
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
        if not cursor.execute("PRAGMA page_count").fetchone()[0]:  # a new file; later it takes a whole rewriting
            cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _write_ahead(cursor)
        cursor.execute("PRAGMA synchronous = FULL")  # an accepted job survives a power cut, too
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("retort_begin", "BEGIN"))


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Switch the file to WAL; while another process does the same, SQLite gives up at once despite busy_timeout."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


_NO_TABLE = "42P01"
"""PostgreSQL's undefined_table."""


@contextmanager
def as_database_unavailable() -> Iterator[None]:
    """Turn driver errors about an unreachable database into DatabaseUnavailable.

    The database may be absent, restarted or busy.
    """
    try:
        yield
    except (exc.DBAPIError, exc.TimeoutError) as error:
        if isinstance(error, exc.ProgrammingError) and getattr(error.orig, "sqlstate", None) == _NO_TABLE:
            message = "the database has not all tables: run python -m retort.db upgrade"
            raise DatabaseUnavailable(message) from error
        gone = isinstance(error, exc.DBAPIError) and error.connection_invalidated
        if not gone and not isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError):
            raise
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        # The statement and its values stay out of the message: they may hold what a user sent.
        first_line = str(cause).strip().partition("\n")[0]
        full = getattr(cause, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL or getattr(cause, "sqlstate", "") == "53100"
        code = {"code": "storage_full"} if full else {}
        raise DatabaseUnavailable(f"the database is not available: {first_line}", **code) from error


_NOW = {
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    # Not now(): that is when the transaction began, which a long wait for a lock makes old.
    "postgresql": text("SELECT extract(epoch FROM clock_timestamp())::double precision"),
}


def database_now(session: Session) -> float:
    """Return unix time in seconds, as the database sees it.

    It is exact to the millisecond at least.
    """
    return float(session.connection().execute(_NOW[session.get_bind().dialect.name]).scalar_one())


NO_SYNC = {"synchronize_session": False}
"""For updates: no objects of the rows are loaded, so none need to follow."""


def table(model: type[Base]) -> Table:
    """Return the table of *model*.

    Rows go into it without passing through objects.
    """
    return Base.metadata.tables[model.__tablename__]


def add(session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert *rows* (by column name) in one batch."""
    if rows:
        session.connection().execute(insert(table(model)), _one_or_many(rows))


def add_or_ignore(
    session: Session, model: type[Base], row: Mapping[str, Any], *, key: Sequence[str] | None = None
) -> bool:
    """Insert *row* unless its key is taken; return whether inserted.

    The key is *key*, or the primary key.
    """
    primary = table(model).primary_key.columns
    taken: Any = primary if key is None else key
    statement = _insert(session.get_bind().dialect.name, model).on_conflict_do_nothing(index_elements=taken)
    return session.connection().execute(statement.returning(*primary), row).one_or_none() is not None


def add_or_replace(
    session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]], *, key: Sequence[str], keep: Sequence[str]
) -> None:
    """Insert *rows*, or overwrite those whose *key* is taken.

    Every column is overwritten but the key's and those to *keep*.
    """
    if not rows:
        return
    names = tuple(name for name in rows[0] if name not in {*key, *keep})
    statement = _add_or_replace(session.get_bind().dialect.name, model, tuple(key), names)
    session.connection().execute(statement, _one_or_many(rows))


def _one_or_many(rows: Sequence[Mapping[str, Any]]) -> Any:
    """One row does not pay for the driver's way of sending many."""
    return rows[0] if len(rows) == 1 else rows


@cache
def _add_or_replace(dialect: str, model: type[Base], key: tuple[str, ...], names: tuple[str, ...]) -> Insert:
    """Build it once: that takes several times as long as running it."""
    statement = _insert(dialect, model)
    changed = {name: statement.excluded[name] for name in names}
    return statement.on_conflict_do_update(index_elements=key, set_=changed)


def _insert(dialect: str, model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    if dialect == "sqlite":
        return sqlite.insert(table(model))
    return postgresql.insert(table(model))
