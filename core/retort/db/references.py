"""Find the jobs and sweeps whose specs name a dataset or a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from retort.db.models import JobRow, SweepRow


@dataclass(frozen=True, slots=True)
class SpecUser:
    """A job or a sweep whose spec names something."""

    kind: str
    """``job`` or ``sweep``."""
    id: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id} ({self.name})"


def users(
    session: Session, reference: str, *, project: str | None = None, limit: int | None = None
) -> Iterator[SpecUser]:
    """Yield the jobs and sweeps whose specs name *reference*, oldest first.

    Those in the trash are left out. At most *limit* of each kind; in one *project*, if given.
    """
    for kind, row in (("job", JobRow), ("sweep", SweepRow)):
        names = cast(row.spec, Text).contains(reference, autoescape=True)
        found = select(row.id, row.name).where(row.deleted_at.is_(None), names)
        found = found if project is None else found.where(row.project == project)
        yield from (SpecUser(kind, one.id, one.name) for one in session.execute(found.order_by(row.id).limit(limit)))


def users_by_digest(session: Session, beginning: str, *, limit: int) -> dict[str, list[SpecUser]]:
    """Return the jobs and sweeps whose specs name something, by its digest.

    References begin with *beginning*. At most *limit* of each kind are looked at, the newest.
    """
    found: dict[str, list[SpecUser]] = {}
    digests = re.compile(re.escape(beginning) + "([0-9a-f]{64})")
    for kind, row in (("job", JobRow), ("sweep", SweepRow)):
        spec = cast(row.spec, Text)
        named = select(row.id, row.name, spec.label("spec")).where(row.deleted_at.is_(None))
        named = named.where(spec.contains(beginning, autoescape=True)).order_by(row.id.desc()).limit(limit)
        for one in session.execute(named):
            for digest in set(digests.findall(one.spec)):
                found.setdefault(digest, []).append(SpecUser(kind, one.id, one.name))
    return found
