"""Find store keys that no row points to, and take them in two phases.

A key is *marked* when a row that pointed to it goes. It is *sweeping* once it has been marked for the grace period,
nothing points to it, and no attempt runs that began before it was marked. Only then are its bytes deleted, while its
row is locked. Whoever is about to rely on bytes calls ``reclaim`` before looking for them, and ``secure`` in the
transaction that points to them: a process that is killed anywhere leaves either a reference with its bytes, or a key to
collect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from retort.db.models import (
    ArtifactRow,
    DatasetPreviewRow,
    DatasetRow,
    GarbageRow,
    InstallationRow,
    JobRow,
    ModelRow,
    UploadPartRow,
    new_id,
)
from retort.db.session import IDLE_TIMEOUT_S, NO_SYNC, add_or_ignore, table
from retort.errors import TransientError
from retort.states import ACTIVE

POINTERS: tuple[ColumnElement[str], ...] = tuple(
    table(row).c.key for row in (ArtifactRow, ModelRow, UploadPartRow, DatasetRow, DatasetPreviewRow)
)
"""Every column that points to bytes in the store; a new table with one adds it here."""
MARKED, SWEEPING = "marked", "sweeping"
_DELETE_WITHIN_S = IDLE_TIMEOUT_S / 2
"""A process that was stopped for longer since it locked the keys may have lost the lock."""


class BytesCollected(TransientError):
    """The bytes were collected before anything pointed to them; store them again."""

    code = "store_unavailable"


@dataclass(frozen=True, slots=True)
class Garbage:
    """Number and bytes of the keys that wait for collection."""

    keys: int
    size_bytes: int


def store_mark(session: Session) -> str:
    """Return the mark that this database leaves in its store.

    It is made at the first call.
    """
    add_or_ignore(session, InstallationRow, {"name": "store", "value": new_id("db_")})
    return session.scalars(select(InstallationRow.value).where(InstallationRow.name == "store")).one()


def is_referenced(key: Any) -> ColumnElement[bool]:
    """Return the condition that a row of any table points to *key*."""
    return or_(*(exists().where(pointer == key) for pointer in POINTERS))


def mark(session: Session, keys: Iterable[tuple[str, int]], *, now: float) -> None:
    """Mark *keys*, given with their sizes, as possibly unreferenced."""
    for key, size_bytes in keys:
        row = {"key": key, "phase": MARKED, "at": now, "size_bytes": size_bytes}
        add_or_ignore(session, GarbageRow, row)


def reclaim(session: Session, key: str, *, now: float) -> bool:
    """Keep the collector off *key* for the grace period; True if it was marked.

    Call it before looking whether the bytes are there. It waits for a deletion that is under way.
    """
    changed = update(GarbageRow).where(GarbageRow.key == key).values(phase=MARKED, at=now)
    return bool(session.connection().execute(changed).rowcount)


def secure(session: Session, keys: Collection[str]) -> None:
    """Take *keys* from the collector, in the transaction that points to them.

    Raises:
        BytesCollected: they were given up; bring them into the store again.

    """
    rows = table(GarbageRow)
    connection = session.connection()
    connection.execute(delete(rows).where(rows.c.key.in_(keys), rows.c.phase == MARKED))
    if connection.execute(select(rows.c.key).where(rows.c.key.in_(keys))).first() is not None:
        raise BytesCollected("the stored bytes were collected meanwhile", hint="send them again")


def horizon(session: Session, *, now: float, grace_s: float) -> float:
    """Return the time before which a key must have been marked to be collected."""
    began = session.scalar(select(func.min(JobRow.claimed_at)).where(JobRow.state.in_(ACTIVE)))
    return min(now - grace_s, now if began is None else began)


def give_up(session: Session, *, before: float, limit: int = 100) -> list[str]:
    """Give up at most *limit* keys marked before *before*; return them.

    Those that a row points to again are forgotten.
    """
    ripe = select(GarbageRow.key).where(GarbageRow.phase == MARKED, GarbageRow.at < before).order_by(GarbageRow.at)
    keys = list(session.scalars(ripe.limit(limit).with_for_update(skip_locked=True)))
    # A statement of its own: it sees what was written while the keys were being locked.
    rows = table(GarbageRow)
    needed = delete(rows).where(rows.c.key.in_(keys), is_referenced(rows.c.key))
    session.connection().execute(needed)
    chosen = update(rows).where(rows.c.key.in_(keys)).values(phase=SWEEPING).returning(rows.c.key)
    return list(session.connection().execute(chosen).scalars())


def collect(session: Session, remove: Callable[[Sequence[str]], None], *, limit: int = 100) -> Garbage:
    """Delete the bytes of at most *limit* keys that were given up.

    *remove* deletes them. The keys stay locked meanwhile, so that nobody brings back what is about to go.
    """
    given_up = select(GarbageRow.key, GarbageRow.size_bytes).where(GarbageRow.phase == SWEEPING).limit(limit)
    began = time.monotonic()
    rows = session.execute(given_up.with_for_update(skip_locked=True)).all()
    if not rows:
        return Garbage(0, 0)
    if time.monotonic() - began > _DELETE_WITHIN_S:
        raise TransientError("the machine stood still; the keys are collected later", code="database_unavailable")
    keys = [row.key for row in rows]
    remove(keys)
    session.execute(delete(GarbageRow).where(GarbageRow.key.in_(keys)), execution_options=NO_SYNC)
    return Garbage(len(rows), sum(row.size_bytes for row in rows))


def unknown(session: Session, keys: Collection[str]) -> list[str]:
    """Return those of *keys* that no row points to, and that are not marked."""
    known: set[str] = set(session.scalars(select(GarbageRow.key).where(GarbageRow.key.in_(keys))))
    for pointer in POINTERS:
        known |= set(session.execute(select(pointer).where(pointer.in_(keys))).scalars())
    return [key for key in keys if key not in known]


def waiting(session: Session) -> Garbage:
    """Return how much waits for collection."""
    total = func.coalesce(func.sum(GarbageRow.size_bytes), 0)
    row = session.execute(select(func.count(), total).select_from(GarbageRow)).one()
    return Garbage(int(row[0]), int(row[1]))
