"""Serve webhooks: make, change, try and delete them, list their deliveries."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from typing import Annotated, Any

from fastapi import Depends, Path, Response
from retort.access import Scope
from retort.addresses import resolve_target
from retort.db import webhooks
from retort.db.session import database_now
from retort.db.webhook_models import DELIVERY_PREFIX, DeliveryRow
from retort.db.webhooks import WebhookNotFound
from retort.errors import FetchError

from retort_api.deps import AppState, Caller, Router, Serving
from retort_api.errors import ACCEPTED, CREATED, NO_CONTENT, documented
from retort_api.http import Cursor, Limit, next_cursor, parse_cursor
from retort_api.schemas.jobs import row_fields
from retort_api.schemas.webhooks import Deliveries, Delivery, NewWebhook, Webhook, WebhookChange, Webhooks

router = Router("webhooks")

DELIVERY = rf"^{DELIVERY_PREFIX}[0-9a-f]{{32}}$"
DeliveryId = Annotated[str, Path(description="As the list of deliveries names it.", pattern=DELIVERY)]
_ID = re.compile(r"whk_[0-9a-f]{32}")
_REFUSALS = ("webhook_not_found", "bad_parameter", "database_unavailable")


async def _webhook_id(
    webhook_id: Annotated[str, Path(description="Such as `whk_01985a3e7b0c7d4e8f1a2b3c4d5e6f70`.")],
) -> str:
    if not _ID.fullmatch(webhook_id):
        raise WebhookNotFound(f"there is no webhook {webhook_id}")
    return webhook_id


WebhookId = Annotated[str, Depends(_webhook_id)]


@router.readable(
    "/v1/webhooks",
    scope=Scope.JOBS_READ,
    response_model=Webhooks,
    responses=documented("bad_parameter", "database_unavailable"),
)
def list_webhooks(service: Serving, caller: Caller) -> Webhooks:
    """List the webhooks of the project, without their secrets."""
    with service.read(caller) as session:
        return Webhooks(data=tuple(Webhook.of(row) for row in webhooks.of_project(session)))


@router.post(
    "/v1/webhooks",
    scope=Scope.JOBS_WRITE,
    status_code=CREATED,
    response_model=Webhook,
    responses=documented(
        "unreadable_body", "bad_parameter", "bad_address", "too_many_webhooks", "database_unavailable"
    ),
)  # fmt: skip
def create_webhook(service: Serving, caller: Caller, wanted: NewWebhook) -> Webhook:
    """Have an address told what happens to the project's jobs. The answer alone holds the signing secret."""
    _check(service, wanted.url)
    with service.begin(caller) as session:
        row = webhooks.create(
            session, url=wanted.url, events=[str(event) for event in wanted.events], description=wanted.description,
            project=caller.project, owner=caller.owner, now=database_now(session),
        )  # fmt: skip
        return Webhook.of(row, secret=row.secret)


@router.readable(
    "/v1/webhooks/{webhook_id}", scope=Scope.JOBS_READ, response_model=Webhook, responses=documented(*_REFUSALS)
)
def get_webhook(service: Serving, caller: Caller, webhook_id: WebhookId) -> Webhook:
    """Show a webhook, without its secret."""
    with service.read(caller) as session:
        return Webhook.of(webhooks.get(session, webhook_id))


@router.patch(
    "/v1/webhooks/{webhook_id}",
    scope=Scope.JOBS_WRITE,
    response_model=Webhook,
    responses=documented("unreadable_body", "bad_address", *_REFUSALS),
)
def change_webhook(service: Serving, caller: Caller, webhook_id: WebhookId, change: WebhookChange) -> Webhook:
    """Change a webhook's address, events or description, or enable or disable it."""
    if change.url is not None:
        _check(service, change.url)
    values: dict[str, Any] = change.model_dump(mode="json", exclude_none=True)
    with service.begin(caller) as session:
        return Webhook.of(webhooks.change(session, webhook_id, **values))


@router.delete(
    "/v1/webhooks/{webhook_id}",
    scope=Scope.JOBS_WRITE,
    status_code=NO_CONTENT,
    response_model=None,
    responses=documented(*_REFUSALS),
)
def delete_webhook(service: Serving, caller: Caller, webhook_id: WebhookId) -> Response:
    """Delete a webhook with its deliveries; what was still to be sent is not sent."""
    with service.begin(caller) as session:
        webhooks.remove(session, webhook_id)
    return Response(None, NO_CONTENT)


@router.post(
    "/v1/webhooks/{webhook_id}/rotate",
    scope=Scope.JOBS_WRITE,
    response_model=Webhook,
    responses=documented(*_REFUSALS),
)
def rotate_webhook(service: Serving, caller: Caller, webhook_id: WebhookId) -> Webhook:
    """Give a webhook a new secret, which the answer holds; for a day deliveries are signed with both."""
    with service.begin(caller) as session:
        row = webhooks.rotate(session, webhook_id, now=database_now(session))
        return Webhook.of(row, secret=row.secret)


@router.post(
    "/v1/webhooks/{webhook_id}/test",
    scope=Scope.JOBS_WRITE,
    status_code=ACCEPTED,
    response_model=Delivery,
    responses=documented(*_REFUSALS),
)
def try_webhook(service: Serving, caller: Caller, webhook_id: WebhookId) -> Delivery:
    """Have a worker send an event `webhook.test`; the log of deliveries shows what was answered."""
    with service.begin(caller) as session:
        webhooks.test(session, webhook_id, now=database_now(session))
        return _shown(webhooks.deliveries(session, webhook_id, limit=1)[0])


@router.readable(
    "/v1/webhooks/{webhook_id}/deliveries",
    scope=Scope.JOBS_READ,
    response_model=Deliveries,
    responses=documented(*_REFUSALS),
)
def list_deliveries(
    *,
    service: Serving,
    caller: Caller,
    webhook_id: WebhookId,
    response: Response,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Deliveries:
    """List what was sent to a webhook and what is to be sent, newest first."""
    with service.read(caller) as session:
        found = webhooks.deliveries(
            session, webhook_id, after=parse_cursor(cursor, DELIVERY_PREFIX), limit=limit + 1
        )  # fmt: skip
        shown = tuple(_shown(row) for row in found[:limit])
    path = f"/v1/webhooks/{webhook_id}/deliveries"
    cursor = next_cursor(response, found, limit, prefix=DELIVERY_PREFIX, path=path)
    return Deliveries(data=shown, next_cursor=cursor, has_more=cursor is not None)


@router.post(
    "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    scope=Scope.JOBS_WRITE,
    status_code=ACCEPTED,
    response_model=Delivery,
    responses=documented("delivery_not_found", *_REFUSALS),
)
def redeliver(service: Serving, caller: Caller, webhook_id: WebhookId, delivery_id: DeliveryId) -> Delivery:
    """Have a worker send a delivery again that was delivered or given up; again before that is harmless.

    The body and `webhook-id` are those of the first time. One to a webhook that is not enabled waits until it is.
    """
    with service.begin(caller) as session:
        return _shown(webhooks.redeliver(session, webhook_id, delivery_id, now=database_now(session)))


def _shown(row: DeliveryRow) -> Delivery:
    return Delivery.model_validate(row_fields(row, Delivery, payload=json.loads(row.payload)))


def _check(service: AppState, url: str) -> None:
    """Refuse an address that no worker will reach; whether a name is known today matters when it is sent to."""
    trusted = [ip_network(one) for one in service.settings.webhook_networks]
    try:
        resolve_target(url, trusted)
    except FetchError:
        return
