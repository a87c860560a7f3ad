"""A row in every table, made from the columns alone: what is added to a table, or a new table, is among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from retort.db.models import Base
from sqlalchemy import Column, Float, Table, delete, insert
from sqlalchemy.orm import Session

Overrides = Mapping[str, Mapping[str, Any]]


def timestamps(table: Table) -> Iterator[str]:
    """The columns that are points in time."""
    for column in table.columns:
        if isinstance(column.type, Float) and (column.name == "at" or column.name.endswith(("_at", "_until"))):
            yield column.name


def fill(session: Session, *, at: float, overrides: Overrides) -> None:
    """Have one row in every table; all its times are *at*, and *overrides* say what must be as it is, by table."""
    for table in reversed(Base.metadata.sorted_tables):
        session.connection().execute(delete(table))
    for table in Base.metadata.sorted_tables:
        times = dict.fromkeys(timestamps(table), at)
        row = {column.name: _value(column) for column in table.columns if column.name not in times}
        session.connection().execute(insert(table), {**row, **times, **overrides.get(table.name, {})})


def _value(column: Column[Any]) -> Any:
    """What a row has in *column*: the same in a table as in what points to it, so that they meet."""
    for key in column.foreign_keys:
        return _value(key.column)
    if column.nullable:
        return None
    kind = column.type.python_type
    if getattr(column.type, "enums", None):
        return column.type.enums[0]  # type: ignore[attr-defined]
    if kind is str:
        return f"{column.table.name}-1"[: getattr(column.type, "length", None) or 63]
    return {int: 1, float: 1.0, bool: False, bytes: b"x"}.get(kind, {})
