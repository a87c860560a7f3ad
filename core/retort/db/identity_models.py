"""The tables of who may do what: projects, keys, quotas, and the audit log."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from retort.db.models import Base, Count, Id, Owned

KEY_PREFIX = "key_"


class ProjectRow(Base):
    """One project: people who share jobs, data and models."""

    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    created_at: Mapped[float]


class KeyRow(Owned, Base):
    """Secret of a client: API key, browser session or one-time link."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("secret_sha256"), Index(None, "project", "id"), Index(None, "expires_at"))

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    """``key``, ``login`` (a key with a login's expiry), ``session`` or ``link``."""
    name: Mapped[str] = mapped_column(String(63))
    """For people, to tell keys apart."""
    prefix: Mapped[str] = mapped_column(String(16))
    """Beginning of the secret, which alone is known of it."""
    secret_sha256: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    scopes: Mapped[list[str]] = mapped_column(JSON())
    parent_id: Mapped[str | None] = mapped_column(Id, index=True)
    """The key that it was made with or from: it ends with that."""
    created_at: Mapped[float]
    created_by: Mapped[str] = mapped_column(String(63))
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]
    last_used_at: Mapped[float | None]
    """Written at most every few minutes."""


class AuditRow(Owned, Base):
    """One change that somebody made, or was refused."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "project", "id"), Index(None, "at"))
    id: Mapped[int] = mapped_column(Count, primary_key=True)
    at: Mapped[float]
    key_id: Mapped[str] = mapped_column(String(255))
    """With which key, session or proxy."""
    action: Mapped[str] = mapped_column(String(255))
    target: Mapped[str] = mapped_column(String(255))
    address: Mapped[str] = mapped_column(String(255))
    """From where."""
    request_id: Mapped[str] = mapped_column(String(255))
    outcome: Mapped[str] = mapped_column(String(63))
    """``done``, or the code of what refused it."""


class QuotaRow(Base):
    """How much a project may have, where that is not what the settings say."""

    __tablename__ = "quotas"
    project: Mapped[str] = mapped_column(String(63), primary_key=True)
    queued_jobs: Mapped[int | None]
    running_jobs: Mapped[int | None]
    gpu_hours: Mapped[float | None]
    """In a calendar month, by UTC."""
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    uploads: Mapped[int | None]
    """At a time."""
