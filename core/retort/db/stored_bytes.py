"""Sum the bytes that the database knows in the store."""

from __future__ import annotations

from sqlalchemy import Table, func, select, union_all
from sqlalchemy.orm import Session

from retort.db.models import Base


def stored_bytes(session: Session) -> int:
    """Return the bytes of all named objects, each object once."""
    rows = [
        select(table.c["key"].label("key"), table.c["size_bytes"].label("size_bytes")).where(
            table.c["key"].is_not(None)
        )
        for table in Base.metadata.sorted_tables
        if _names_objects(table)
    ]
    named = union_all(*rows).subquery()
    each = select(func.max(named.c.size_bytes).label("size_bytes")).group_by(named.c.key).subquery()
    return int(session.scalar(select(func.coalesce(func.sum(each.c.size_bytes), 0))) or 0)


def _names_objects(table: Table) -> bool:
    return "key" in table.c and "size_bytes" in table.c
