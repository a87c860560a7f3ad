"""The few statements that the two databases spell differently, and updates that load no objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table, insert
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
        session.connection().execute(insert(table(model)), rows)


def add_or_ignore(session: Session, model: type[Base], row: Mapping[str, Any]) -> bool:
    """Insert *row* unless its primary key is taken; returns whether it went in."""
    statement = _insert(session, model).on_conflict_do_nothing(index_elements=table(model).primary_key.columns)
    return session.connection().execute(statement, row).rowcount == 1


def add_or_replace(
    session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]], *, key: Sequence[str], keep: Sequence[str]
) -> None:
    """Insert *rows*; where *key* is taken, overwrite every column but the key's and those to *keep*."""
    if not rows:
        return
    statement = _insert(session, model)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in {*key, *keep}}
    session.connection().execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)


def _insert(session: Session, model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table(model))
    return postgresql.insert(table(model))
