"""Show webhooks and their deliveries; make, try, change and delete them."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Form, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from retort.access import Scope
from retort.db.webhooks import WebhookEvent

from retort_api.deps import Caller, Serving
from retort_api.errors import CREATED
from retort_api.http import Cursor, Limit
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render, see_other
from retort_api.routes import webhooks as webhook_routes
from retort_api.routes.webhooks import DELIVERY, WebhookId
from retort_api.schemas.webhooks import Description, NewWebhook, Url, Webhook, WebhookChange

router = PageRouter()

_HOME = "/settings/webhooks"
_PAYLOAD = 4000
"""Characters of a payload that are shown."""


class WebhookForm(BaseModel):
    """The form that makes or changes a webhook."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Url
    events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=len(WebhookEvent))]
    description: Description = ""
    enabled: bool = False


class RedeliverForm(BaseModel):
    """The form that sends a delivery once more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delivery: Annotated[str, Field(pattern=DELIVERY)]


@router.page(_HOME, scope=Scope.JOBS_READ)
def show_webhooks(request: Request, service: Serving, caller: Caller) -> Response:
    """Show the webhooks, and the form that makes one."""
    return render(
        request, "settings_webhooks.html", title="Webhooks", current="settings", section="webhooks",
        webhooks=webhook_routes.list_webhooks(service, caller).data, events=list(WebhookEvent),
    )  # fmt: skip


@router.form(_HOME, scope=Scope.JOBS_WRITE, shown_on=_HOME)
def create_webhook_by_form(
    request: Request, service: Serving, caller: Caller, asked: Annotated[WebhookForm, Form()]
) -> Response:
    """Make a webhook; the page that answers shows its secret, once."""
    wanted = NewWebhook(url=asked.url, events=tuple(asked.events), description=asked.description)
    return _secret(request, webhook_routes.create_webhook(service, caller, wanted))


def _secret(request: Request, made: Webhook) -> Response:
    return render(
        request, "settings_secret.html", title="A signing secret", current="settings", section="webhooks",
        status=CREATED, secret=made.secret, what=f"The webhook for {made.url}", back=f"{_HOME}/{made.id}", use=None,
    )  # fmt: skip


@router.page(f"{_HOME}/{{webhook_id}}", scope=Scope.JOBS_READ)
def show_webhook(
    *, request: Request, service: Serving, caller: Caller, webhook_id: WebhookId, limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:  # fmt: skip
    """Show a webhook, what was sent to it, and what it answered."""
    webhook = webhook_routes.get_webhook(service, caller, webhook_id)
    found = webhook_routes.list_deliveries(
        service=service, caller=caller, webhook_id=webhook_id, response=Response(), limit=limit, cursor=cursor
    )  # fmt: skip
    return render(
        request, "settings_webhook.html", title="Webhook", current="settings", section="webhooks", webhook=webhook,
        deliveries=found.data, cursor=found.next_cursor, events=list(WebhookEvent), now=time.time(), most=_PAYLOAD,
        moving=any(one.state == "pending" for one in found.data),
    )  # fmt: skip


@router.form(f"{_HOME}/{{webhook_id}}", scope=Scope.JOBS_WRITE, shown_on=f"{_HOME}/{{webhook_id}}")
def change_webhook_by_form(
    request: Request, service: Serving, caller: Caller, webhook_id: WebhookId,
    asked: Annotated[WebhookForm, Form()],
) -> Response:  # fmt: skip
    """Change a webhook."""
    change = WebhookChange(
        url=asked.url, events=tuple(asked.events), description=asked.description, enabled=asked.enabled
    )  # fmt: skip
    webhook_routes.change_webhook(service, caller, webhook_id, change)
    return see_other(request, f"{_HOME}/{webhook_id}", "The webhook is changed")


@router.form(f"{_HOME}/{{webhook_id}}/test", scope=Scope.JOBS_WRITE)
def try_webhook_by_form(request: Request, service: Serving, caller: Caller, webhook_id: WebhookId) -> Response:
    """Have a test event sent."""
    webhook_routes.try_webhook(service, caller, webhook_id)
    return see_other(request, f"{_HOME}/{webhook_id}", "A worker sends a test; its answer appears below")


@router.form(f"{_HOME}/{{webhook_id}}/redeliver", scope=Scope.JOBS_WRITE)
def redeliver_by_form(
    request: Request, service: Serving, caller: Caller, webhook_id: WebhookId,
    asked: Annotated[RedeliverForm, Form()],
) -> Response:  # fmt: skip
    """Have a delivery sent once more."""
    webhook_routes.redeliver(service, caller, webhook_id, asked.delivery)
    return see_other(request, f"{_HOME}/{webhook_id}", "A worker sends it again; its answer appears below")


@router.form(f"{_HOME}/{{webhook_id}}/rotate", scope=Scope.JOBS_WRITE)
def rotate_webhook_by_form(request: Request, service: Serving, caller: Caller, webhook_id: WebhookId) -> Response:
    """Give a webhook a new secret; the page that answers shows it, once."""
    return _secret(request, webhook_routes.rotate_webhook(service, caller, webhook_id))


@router.form(f"{_HOME}/{{webhook_id}}/delete", scope=Scope.JOBS_WRITE)
def delete_webhook_by_form(request: Request, service: Serving, caller: Caller, webhook_id: WebhookId) -> Response:
    """Delete a webhook with its deliveries."""
    webhook_routes.delete_webhook(service, caller, webhook_id)
    return see_other(request, _HOME, "The webhook is deleted")
