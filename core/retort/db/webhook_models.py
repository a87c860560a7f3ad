"""The tables of webhooks, and of what is to be delivered to them."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from retort.db.models import Base, Id, Owned

WEBHOOK_PREFIX = "whk_"
DELIVERY_PREFIX = "msg_"

_DUE = text("next_at IS NOT NULL")


class WebhookRow(Owned, Base):
    """An address that receives the events of a project's jobs."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "project", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    url: Mapped[str] = mapped_column(String(2048))
    description: Mapped[str] = mapped_column(String(255))
    events: Mapped[list[str]] = mapped_column(JSON())
    """Kinds of events that it is sent."""
    secret: Mapped[str] = mapped_column(String(128))
    """With which deliveries are signed."""
    old_secret: Mapped[str | None] = mapped_column(String(128))
    """The one before, which signs them too until ``old_secret_until``."""
    old_secret_until: Mapped[float | None]
    enabled: Mapped[bool] = mapped_column(Boolean())
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    """Why the service has disabled it; null where it has not."""
    created_at: Mapped[float]


class DeliveryRow(Owned, Base):
    """One event for one webhook, written with the change that it announces."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "webhook_id", "id"),
        Index("ix_webhook_deliveries_due", "next_at", postgresql_where=_DUE, sqlite_where=_DUE),
        Index(None, "created_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(Id, ForeignKey("webhooks.id"))
    event: Mapped[str] = mapped_column(String(32))
    job_id: Mapped[str | None] = mapped_column(Id)
    payload: Mapped[str] = mapped_column(Text)
    """The body, as it is signed and sent."""
    state: Mapped[str] = mapped_column(String(9))
    """``pending``, ``delivered`` or ``failed``."""
    attempts: Mapped[int]
    next_at: Mapped[float | None]
    """When it is sent (again); null once it is delivered or given up."""
    status: Mapped[int | None]
    """Status of the latest answer; null where none came."""
    error: Mapped[str | None] = mapped_column(Text)
    """Why the latest attempt was no delivery."""
    duration_ms: Mapped[float | None]
    created_at: Mapped[float]
    ended_at: Mapped[float | None]
