"""API keys, browser sessions and one-time links, of which only hashes are kept."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from retort import access
from retort.access import NAME, ClientRole, Principal, Scope
from retort.db.models import KEY_PREFIX, KeyRow, ProjectRow, new_id
from retort.db.session import NO_SYNC, add, add_or_ignore
from retort.errors import UserError

Kind = Literal["key", "session", "link"]
_PREFIXES: dict[Kind, str] = {
    "key": access.KEY_PREFIX, "session": access.SESSION_PREFIX, "link": access.LINK_PREFIX
}  # fmt: skip
TOUCH_S = 600.0
"""A key's last use is written at most this often."""


class KeyNotFound(UserError):
    """There is no such key."""

    code = "key_not_found"


class ProjectNotFound(UserError):
    """There is no such project."""

    code = "project_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What a key is to be."""

    name: str
    role: ClientRole
    project: str = access.DEFAULT_PROJECT
    owner: str = access.DEFAULT_OWNER
    scopes: frozenset[Scope] | None = None
    """Fewer than the role's; None is all of them."""
    expires_at: float | None = None
    kind: Kind = "key"
    parent_id: str | None = None
    created_by: str = access.DEFAULT_OWNER


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key as it was found by its secret."""

    principal: Principal
    kind: str
    left_s: float | None
    """Until it expires; None where it does not."""
    stale: bool
    """Whether its last use is to be written."""

    def outlives_s(self, wanted_s: float) -> float:
        """Return for how long after a look it may still be taken for valid, at most *wanted_s*."""
        return wanted_s if self.left_s is None else 0.0


def create(session: Session, wanted: NewKey, *, now: float, secret: str | None = None) -> tuple[KeyRow, str]:
    """Make a key; return it with its secret, which nobody can see later.

    Raises:
        ProjectNotFound: there is no such project.
        UserError: the scopes are beyond the role, or a name cannot be.

    """
    _check_name("owner", wanted.owner)
    get_project(session, wanted.project)
    scopes = access.scopes_of(wanted.role, wanted.scopes)
    secret = secret or access.new_secret(_PREFIXES[wanted.kind])
    row = {
        "id": new_id(KEY_PREFIX), "kind": wanted.kind, "name": wanted.name, "prefix": access.shown_prefix(secret),
        "secret_sha256": access.digest_of(secret), "role": wanted.role.value, "scopes": sorted(scopes),
        "parent_id": wanted.parent_id, "created_at": now, "created_by": wanted.created_by,
        "expires_at": wanted.expires_at, "revoked_at": None, "last_used_at": None, "project": wanted.project,
        "owner": wanted.owner,
    }  # fmt: skip
    add(session, KeyRow, [row])
    return KeyRow(**row), secret


def create_project(session: Session, name: str, *, now: float) -> bool:
    """Make a project; False where it is there already."""
    _check_name("project", name)
    return add_or_ignore(session, ProjectRow, {"name": name, "created_at": now})


def get_project(session: Session, name: str) -> ProjectRow:
    """Return the project.

    Raises:
        ProjectNotFound: there is no such project.

    """
    project = session.get(ProjectRow, name)
    if project is None:
        raise ProjectNotFound(f"there is no project {name!r}", hint="retort projects create NAME makes one")
    return project


def _check_name(what: str, name: str) -> None:
    if not re.fullmatch(NAME, name):
        hint = "1 to 63 letters, digits, dots, underscores, at signs and hyphens; the first a letter or digit"
        raise UserError(f"{name!r} cannot be the name of a {what}", hint=hint, code="bad_parameter")


def find(session: Session, digests: Sequence[str], *, now: float) -> dict[str, KnownKey]:
    """Return the keys that are valid now, by the digests of their secrets."""
    query = select(KeyRow).where(KeyRow.secret_sha256.in_(digests))
    found: dict[str, KnownKey] = {}
    for row in session.scalars(query):
        ended = row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now)
        match = next((digest for digest in digests if hmac.compare_digest(digest, row.secret_sha256)), None)
        if ended or match is None:
            continue
        scopes = frozenset(Scope(scope) for scope in row.scopes if scope in set(Scope))
        principal = Principal(row.owner, row.project, ClientRole(row.role), scopes, row.id)
        stale = row.last_used_at is None or row.last_used_at < now - TOUCH_S
        found[match] = KnownKey(principal, row.kind, None if row.expires_at is None else row.expires_at - now, stale)
    return found


def was_known(session: Session, secret: str) -> bool:
    """Return True if the secret is on record, valid or not."""
    digest = access.digest_of(secret)
    return session.scalar(select(KeyRow.id).where(KeyRow.secret_sha256 == digest)) is not None


def touch(session: Session, key_ids: Sequence[str], *, now: float) -> None:
    """Write down that the keys are used."""
    used = update(KeyRow).where(KeyRow.id.in_(key_ids)).values(last_used_at=now)
    session.execute(used, execution_options=NO_SYNC)


def revoke(session: Session, key_id: str, *, now: float) -> KeyRow:
    """End a key, and all that was made with it; asking again changes nothing.

    Raises:
        KeyNotFound: there is no such key.

    """
    row = session.scalar(select(KeyRow).where(KeyRow.id == key_id))
    if row is None:
        raise KeyNotFound(f"there is no key {key_id}", hint="retort keys list shows them")
    same = or_(KeyRow.id == key_id, KeyRow.parent_id == key_id)
    session.execute(
        update(KeyRow).where(same, KeyRow.revoked_at.is_(None)).values(revoked_at=now), execution_options=NO_SYNC
    )
    session.refresh(row)
    return row
