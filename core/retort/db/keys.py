"""Idempotency keys: one submission, however often it is sent, is one job."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from retort.db.models import IdempotencyKey
from retort.db.statements import add_or_ignore
from retort.errors import UserError


class KeyReused(UserError):
    """The idempotency key stands for another request."""

    code = "idempotency_key_reused"


def take(session: Session, key: str, body_sha256: str, job_id: str, *, now: float) -> str:
    """Let *key* stand for *job_id*, which the caller is about to insert, unless it stands for a job already.

    Returns:
        The job that the key stands for.

    Raises:
        KeyReused: the key came with another body before.

    """
    row = {"key": key, "body_sha256": body_sha256, "job_id": job_id, "created_at": now}
    if add_or_ignore(session, IdempotencyKey, row):
        return job_id
    query = select(IdempotencyKey.job_id, IdempotencyKey.body_sha256).where(IdempotencyKey.key == key)
    known = session.execute(query).one()
    if known.body_sha256 != body_sha256:
        raise KeyReused(
            "this idempotency key was used for a different request",
            hint="send the first request again unchanged, or choose a new key",
        )
    return str(known.job_id)
