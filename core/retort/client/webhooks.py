"""Describe the calls about a project's webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retort.client.answers import Delivery, Webhook
from retort.client.calls import Call, Listing, pages
from retort.client.operations import AwaitingPart, BlockingPart, call, listing


def _path(webhook_id: str, part: str = "") -> str:
    return f"/v1/webhooks/{webhook_id}{part and '/'}{part}"


class WebhookCalls:
    """Calls about the webhooks of a project."""

    @call
    def list(self) -> Call[tuple[Webhook, ...]]:
        """Return the webhooks, oldest first."""
        return Call("GET", "/v1/webhooks", reading="data")

    @call
    def create(self, url: str, events: Sequence[str], *, description: str = "") -> Call[Webhook]:
        """Register an address; the answer alone holds the signing secret."""
        return Call("POST", "/v1/webhooks", {"json": {"url": url, "events": [*events], "description": description}})

    @call
    def get(self, webhook_id: str) -> Call[Webhook]:
        """Return a webhook."""
        return Call("GET", _path(webhook_id))

    @call
    def change(self, /, webhook_id: str, **changes: Any) -> Call[Webhook]:
        """Change *url*, *events*, *description* or *enabled*; return the webhook."""
        return Call("PATCH", _path(webhook_id), {"json": changes})

    @call
    def delete(self, webhook_id: str) -> Call[None]:
        """Delete a webhook with its deliveries."""
        return Call("DELETE", _path(webhook_id), reading="nothing")

    @call
    def rotate(self, webhook_id: str) -> Call[Webhook]:
        """Give a webhook a new secret; return the webhook with it."""
        return Call("POST", _path(webhook_id, "rotate"))

    @call
    def test(self, webhook_id: str) -> Call[Delivery]:
        """Have a test event sent; return its delivery as it stands."""
        return Call("POST", _path(webhook_id, "test"))

    @listing
    def deliveries(self, webhook_id: str) -> Listing[Delivery]:
        """Yield the deliveries, newest first, page after page."""
        return pages(_path(webhook_id, "deliveries"))

    @call
    def redeliver(self, webhook_id: str, delivery_id: str) -> Call[Delivery]:
        """Have a delivery that has ended sent again; return it as it stands."""
        return Call("POST", _path(webhook_id, f"deliveries/{delivery_id}/redeliver"))


class WebhooksClient(BlockingPart, WebhookCalls):
    """The webhooks of a project."""


class AsyncWebhooksClient(AwaitingPart, WebhookCalls):
    """The webhooks of a project, for an event loop."""
