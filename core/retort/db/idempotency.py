"""Idempotency keys: a request that is sent twice makes one thing."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from retort.access import DEFAULT_OWNER
from retort.db.models import IdempotencyKeyRow
from retort.db.session import add_or_ignore
from retort.errors import UserError

_COLUMNS = ("project", "owner", "key")


class KeyReused(UserError):
    """The idempotency key stands for another request."""

    code = "idempotency_key_reused"


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's name for one request; other owners may use the same."""

    text: str
    owner: str = DEFAULT_OWNER
    request_sha256: str | None = None
    """Of everything in the request that must be the same when the key comes again; None leaves that to the maker."""
    keep_s: float | None = None
    """For so long it stands for its first request; None is for ever."""


def claim(
    session: Session, key: IdempotencyKey, made_id: str, *, project: str, now: float, otherwise: str
) -> str:  # fmt: skip
    """Claim *key* for what is about to be made, unless it is taken.

    *otherwise* is the digest of the request where the key has none.

    Returns:
        What the key stands for: *made_id* if it is new.

    Raises:
        KeyReused: the key came with another request before.

    """
    request_sha256 = key.request_sha256 or otherwise
    place = (project, key.owner, key.text)
    row = {
        **dict(zip(_COLUMNS, place, strict=True)), "request_sha256": request_sha256, "made_id": made_id,
        "created_at": now,
    }  # fmt: skip
    if add_or_ignore(session, IdempotencyKeyRow, row, key=_COLUMNS):
        return made_id
    mine = (
        IdempotencyKeyRow.project == project, IdempotencyKeyRow.owner == key.owner, IdempotencyKeyRow.key == key.text
    )  # fmt: skip
    known = session.scalars(select(IdempotencyKeyRow).where(*mine).with_for_update()).one()
    if key.keep_s is not None and known.created_at < now - key.keep_s:  # expired, and not collected yet
        known.request_sha256, known.made_id, known.created_at = request_sha256, made_id, now
        session.flush()
        return made_id
    if known.request_sha256 != request_sha256:
        raise KeyReused(
            "this idempotency key was used for a different request",
            hint="send the first request again unchanged, or choose a new key",
        )
    return known.made_id


def release(session: Session, key: IdempotencyKey, made_id: str, *, project: str) -> None:
    """Take back the claim of a key for what was not made after all."""
    session.execute(
        delete(IdempotencyKeyRow).where(
            IdempotencyKeyRow.project == project, IdempotencyKeyRow.owner == key.owner,
            IdempotencyKeyRow.key == key.text, IdempotencyKeyRow.made_id == made_id,
        )
    )  # fmt: skip
