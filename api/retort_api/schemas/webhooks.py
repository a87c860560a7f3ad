"""Webhooks in requests and responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from retort.db.webhook_models import WebhookRow
from retort.db.webhooks import WebhookEvent

from retort_api.schemas.jobs import ResponseModel, row_fields

Url = Annotated[str, Field(min_length=8, max_length=2048, pattern=r"^https?://[!-\[\]-~]+$")]
Events = Annotated[tuple[WebhookEvent, ...], Field(min_length=1, max_length=len(WebhookEvent))]
Description = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,255}$")]


class NewWebhook(BaseModel):
    """An address that is to be told what happens to jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: Url
    """`https://`, at a public address; private networks only where the operator allows them."""
    events: Events
    description: Description = ""
    """For people."""


class WebhookChange(BaseModel):
    """What may change about a webhook; what is left out stays as it is."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"minProperties": 1}
    )

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: Annotated[bool, Field(strict=True)] | None = None
    """Nothing is written down for one that is not enabled; what waits for it is sent when it is enabled again."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            msg = "names nothing to change"
            raise ValueError(msg)
        return self


class Webhook(ResponseModel):
    """An address that is told what happens to the jobs of a project."""

    id: str
    url: str
    description: str
    events: tuple[WebhookEvent, ...]
    enabled: bool
    disabled_reason: str | None
    """Why the service has disabled it; null where it has not."""
    project: str
    owner: str
    created_at: datetime
    secret: str | None
    """With which deliveries are signed; told once, when the webhook is made or its secret rotated."""

    @classmethod
    def of(cls, row: WebhookRow, *, secret: str | None = None) -> Webhook:
        """Return the row as it is shown."""
        return cls.model_validate(row_fields(row, cls, secret=secret))


class Webhooks(ResponseModel):
    """All webhooks, oldest first."""

    data: tuple[Webhook, ...]


class Delivery(ResponseModel):
    """One event for a webhook, and what became of it."""

    id: str
    """Sent as `webhook-id`, the same in every attempt."""
    event: str
    job_id: str | None
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    next_at: datetime | None
    """When it is sent (again); null once it is delivered or given up."""
    status: int | None
    """Status of the latest answer; null where none came."""
    error: str | None
    duration_ms: float | None
    created_at: datetime
    ended_at: datetime | None
    payload: dict[str, Any]


class Deliveries(ResponseModel):
    """Deliveries, newest first."""

    data: tuple[Delivery, ...]
    next_cursor: str | None
    has_more: bool
