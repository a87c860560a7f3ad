"""Keep who changed what, when, from where, with which outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, delete, insert, select
from sqlalchemy.orm import Session

from retort.db.identity_models import AuditRow
from retort.db.models import Base
from retort.errors import printable

DONE = "done"
"""Outcome of a change that was made; others are the codes of what refused it."""
_LONGEST = 255
_TABLE: Table = Base.metadata.tables[AuditRow.__tablename__]
_COLUMNS = ("project", "owner", "key_id", "action", "target", "address", "request_id")


@dataclass(slots=True, kw_only=True)
class Act:
    """A change that somebody is about to make."""

    project: str
    owner: str
    key_id: str
    action: str
    """Name of the operation, as in the OpenAPI document, or of the command."""
    target: str = ""
    """What it is about: names in the address, never anything of a body."""
    address: str = ""
    request_id: str = ""
    written: bool = False
    """Whether a transaction has said of it that it is done."""


_present: ContextVar[Act | None] = ContextVar("retort_act", default=None)


@contextmanager
def acting(act: Act | None) -> Iterator[None]:
    """Have the transactions that are written meanwhile say whose they are."""
    token = _present.set(act)
    try:
        yield
    finally:
        _present.reset(token)


def present() -> Act | None:
    """Return what is being done, if anybody is known to do anything."""
    return _present.get()


def write(session: Session, act: Act, *, now: float, outcome: str = DONE, target: str | None = None) -> None:
    """Write one entry, in the transaction of the change."""
    session.connection().execute(insert(_TABLE), _row(act, now, outcome, target))


def write_all(session: Session, acts: Sequence[tuple[Act, str]], *, now: float) -> None:
    """Write entries of changes that one transaction makes, each with its target."""
    if rows := [_row(act, now, DONE, target) for act, target in acts]:
        session.connection().execute(insert(_TABLE), rows)


def _row(act: Act, now: float, outcome: str, target: str | None) -> dict[str, Any]:
    told = {name: printable(getattr(act, name))[:_LONGEST] for name in _COLUMNS}
    return {**told, "at": now, "outcome": outcome[:63], **({"target": target} if target else {})}


def entries(
    session: Session,
    *,
    project: str | None = None,
    owner: str | None = None,
    action: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditRow]:
    """Return entries, the latest first, from before the entry *before*."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    for column, wanted in ((AuditRow.project, project), (AuditRow.owner, owner), (AuditRow.action, action)):
        query = query if wanted is None else query.where(column == wanted)
    return list(session.scalars(query if before is None else query.where(AuditRow.id < before)))


def prune(session: Session, *, before: float, limit: int = 1000) -> int:
    """Remove some of the entries from before that time; return their number."""
    old = select(AuditRow.id).where(AuditRow.at < before).limit(limit)
    done: Any = session.connection().execute(delete(_TABLE).where(_TABLE.c.id.in_(old)))
    return int(done.rowcount)
