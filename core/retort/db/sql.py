"""The few statements that the two databases spell differently, and updates that load no objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Insert, Table, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from retort.db.models import Base

NO_SYNC = {"synchronize_session": False}
"""For updates: no objects of the rows are loaded, so none need to follow."""


def table(model: type[Base]) -> Table:
    """Return the table of *model*: rows go into it without passing through objects."""
    return Base.metadata.tables[model.__tablename__]


def add(session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert *rows* (by column name) in one batch."""
    if rows:
        session.connection().execute(insert(table(model)), _one_or_many(rows))


def add_or_ignore(
    session: Session, model: type[Base], row: Mapping[str, Any], *, key: Sequence[str] | None = None
) -> bool:
    """Insert *row* unless its *key*, or primary key, is taken; returns whether it went in."""
    primary = table(model).primary_key.columns
    taken: Any = primary if key is None else key
    statement = _insert(session.get_bind().dialect.name, model).on_conflict_do_nothing(index_elements=taken)
    return session.connection().execute(statement.returning(*primary), row).one_or_none() is not None


def add_or_replace(
    session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]], *, key: Sequence[str], keep: Sequence[str]
) -> None:
    """Insert *rows*; where *key* is taken, overwrite every column but the key's and those to *keep*."""
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
