"""API keys, browser sessions and one-time links, of which only hashes are kept."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from retort import access
from retort.access import NAME, ClientRole, Principal, Scope
from retort.db.identity_models import KEY_PREFIX, KeyRow, ProjectRow
from retort.db.models import new_id
from retort.db.session import NO_SYNC, add, add_or_ignore
from retort.errors import UserError

Kind = Literal["key", "login", "session", "link"]
"""``login`` is a key that a person got by logging in; only ``key`` may last for ever."""
_PREFIXES: dict[Kind, str] = {
    "key": access.KEY_PREFIX, "login": access.KEY_PREFIX, "session": access.SESSION_PREFIX, "link": access.LINK_PREFIX
}  # fmt: skip
_KEYS: tuple[Kind, ...] = ("key", "login")
"""What is sent as a bearer, and shown to operators."""
TOUCH_S = 600.0
"""A key's last use is written at most this often."""


class KeyNotFound(UserError):
    """There is no such key."""

    code = "key_not_found"


class ProjectNotFound(UserError):
    """There is no such project."""

    code = "project_not_found"


class KeyEnded(UserError):
    """The key is revoked or has expired."""

    code = "key_ended"


class LinkUsed(UserError):
    """The one-time link opens nothing (any more)."""

    code = "link_used"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """Fields of a key to create."""

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
    """How it is sent: ``key``, ``session`` or ``link``."""
    left_s: float | None
    """Until it expires; None where it does not."""
    stale: bool
    """Whether its last use is to be written."""

    def outlives_s(self, wanted_s: float) -> float:
        """Return for how long it stays valid without the database."""
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
        "parent_id": _root(session, wanted.parent_id), "created_at": now, "created_by": wanted.created_by,
        "expires_at": wanted.expires_at, "revoked_at": None, "last_used_at": None, "project": wanted.project,
        "owner": wanted.owner,
    }  # fmt: skip
    add(session, KeyRow, [row])
    return KeyRow(**row), secret


def _root(session: Session, key_id: str | None) -> str | None:
    """Return the key with which what is made by *key_id* ends: a session's own parent, else itself."""
    above = None if key_id is None else session.scalar(select(KeyRow.parent_id).where(KeyRow.id == key_id))
    return above or key_id


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
        kind = "key" if row.kind in _KEYS else row.kind
        principal = Principal(
            row.owner, row.project, ClientRole(row.role), scopes, row.id, expires_with_browser=kind == "session",
            from_login=row.kind in {"session", "login"},
        )  # fmt: skip
        stale = row.last_used_at is None or row.last_used_at < now - TOUCH_S
        found[match] = KnownKey(principal, kind, None if row.expires_at is None else row.expires_at - now, stale)
    return found


def was_known(session: Session, secret: str) -> bool:
    """Return True if the secret is on record, valid or not."""
    digest = access.digest_of(secret)
    return session.scalar(select(KeyRow.id).where(KeyRow.secret_sha256 == digest)) is not None


def touch(session: Session, key_ids: Sequence[str], *, now: float) -> None:
    """Write down that the keys are used."""
    used = update(KeyRow).where(KeyRow.id.in_(key_ids)).values(last_used_at=now)
    session.execute(used, execution_options=NO_SYNC)


def page(session: Session, *, after: str | None = None, limit: int = 50) -> list[KeyRow]:
    """Return at most *limit* API keys, newest first, behind the key *after*."""
    query = select(KeyRow).where(KeyRow.kind.in_(_KEYS)).order_by(KeyRow.id.desc()).limit(limit)
    return list(session.scalars(query if after is None else query.where(KeyRow.id < after)))


def sessions(session: Session, *, now: float, owner: str | None = None, limit: int = 100) -> list[KeyRow]:
    """Return the open sessions of browsers, newest first; those of one *owner*, if given."""
    query = select(KeyRow).where(KeyRow.kind == "session", KeyRow.revoked_at.is_(None), KeyRow.expires_at > now)
    query = query if owner is None else query.where(KeyRow.owner == owner)
    return list(session.scalars(query.order_by(KeyRow.id.desc()).limit(limit)))


def projects(session: Session) -> list[ProjectRow]:
    """Return all projects by name."""
    return list(session.scalars(select(ProjectRow).order_by(ProjectRow.name)))


def get(session: Session, key_id: str) -> KeyRow:
    """Return the key.

    Raises:
        KeyNotFound: there is no such key.

    """
    # Some databases refuse to look for what cannot be printed.
    row = session.scalar(select(KeyRow).where(KeyRow.id == key_id)) if key_id.isprintable() else None
    if row is None:
        raise KeyNotFound(f"there is no key {key_id}", hint="retort keys list shows them")
    return row


def is_valid(row: KeyRow, *, now: float) -> bool:
    """Return True if the key still opens something."""
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now)


def rotate(
    session: Session, key_id: str, *, now: float, grace_s: float, secret: str | None = None
) -> tuple[KeyRow, str]:
    """Create a successor of a key; the old one ends after *grace_s*.

    Raises:
        KeyNotFound: there is no such key.
        KeyEnded: it is revoked or has expired.

    """
    old = session.scalar(select(KeyRow).where(KeyRow.id == key_id, KeyRow.kind.in_(_KEYS)).with_for_update())
    if old is None:
        raise KeyNotFound(f"there is no key {key_id}", hint="retort keys list shows them")
    if old.kind == "login":
        raise KeyEnded(f"key {key_id} ends with its login, and is not replaced", hint="log in again: retort login")
    if not is_valid(old, now=now):
        raise KeyEnded(f"key {key_id} has ended already", hint="create a new one: retort keys create")
    wanted = NewKey(
        name=old.name, role=ClientRole(old.role), project=old.project, owner=old.owner,
        scopes=frozenset(Scope(scope) for scope in old.scopes), expires_at=old.expires_at, created_by=old.owner,
    )  # fmt: skip
    made = create(session, wanted, now=now, secret=secret)
    ends = now + grace_s if old.expires_at is None else min(old.expires_at, now + grace_s)
    longer = or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > ends)
    same = or_(KeyRow.id == key_id, KeyRow.parent_id == key_id)
    session.execute(update(KeyRow).where(same, longer).values(expires_at=ends), execution_options=NO_SYNC)
    return made


def open_session(session: Session, link: str, *, now: float, session_s: float) -> tuple[KeyRow, str]:
    """Exchange a one-time link for a browser's session.

    Raises:
        LinkUsed: the link is unknown, used, or too old.

    """
    digest = access.digest_of(link)
    unused = update(KeyRow).where(
        KeyRow.secret_sha256 == digest, KeyRow.kind == "link", KeyRow.revoked_at.is_(None), KeyRow.expires_at > now
    )  # fmt: skip
    taken = unused.values(revoked_at=now, last_used_at=now).returning(KeyRow.id)
    link_id = session.execute(taken, execution_options=NO_SYNC).scalar_one_or_none()
    if link_id is None:
        raise LinkUsed("this link has been used, or is too old", hint="make another: retort login --browser")
    row = session.get_one(KeyRow, link_id)
    parent = None if row.parent_id is None else session.get(KeyRow, row.parent_id)
    return _open_session(session, row, parent, now=now, session_s=session_s)


def open_session_by_key(session: Session, secret: str, *, now: float, session_s: float) -> tuple[KeyRow, str] | None:
    """Make a browser's session by a key, with which it ends.

    None where the key is not valid.
    """
    digest = access.digest_of(secret)
    row = session.scalar(select(KeyRow).where(KeyRow.secret_sha256 == digest, KeyRow.kind.in_(_KEYS)))
    if row is None or not is_valid(row, now=now):
        return None
    return _open_session(session, row, row, now=now, session_s=session_s)


def _open_session(
    session: Session, row: KeyRow, parent: KeyRow | None, *, now: float, session_s: float
) -> tuple[KeyRow, str]:
    """Make a session with what *row* allows, which ends no later than *parent*."""
    ends = now + session_s
    if parent is not None and parent.expires_at is not None:
        ends = min(ends, parent.expires_at)
    wanted = NewKey(
        name="browser", role=ClientRole(row.role), project=row.project, owner=row.owner, kind="session",
        scopes=frozenset(Scope(scope) for scope in row.scopes if scope in set(Scope)), expires_at=ends,
        parent_id=None if parent is None else parent.id, created_by=row.owner,
    )  # fmt: skip
    return create(session, wanted, now=now)


def forget(session: Session, *, before: float, limit: int = 1000) -> int:
    """Delete keys, sessions and links that ended *before*; return their number."""
    ended = or_(KeyRow.expires_at < before, KeyRow.revoked_at < before)
    old = select(KeyRow.id).where(ended).limit(limit)
    ids = list(session.scalars(old))
    session.execute(delete(KeyRow).where(KeyRow.id.in_(ids)), execution_options=NO_SYNC)
    return len(ids)


def revoke(session: Session, key_id: str, *, now: float) -> KeyRow:
    """End a key, and all that was made with it; asking again changes nothing.

    Raises:
        KeyNotFound: there is no such key.

    """
    row = get(session, key_id)
    same = or_(KeyRow.id == key_id, KeyRow.parent_id == key_id)
    session.execute(
        update(KeyRow).where(same, KeyRow.revoked_at.is_(None)).values(revoked_at=now), execution_options=NO_SYNC
    )
    session.refresh(row)
    return row
