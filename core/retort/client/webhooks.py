"""The client of a project's webhooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Json = dict[str, Any]


class WebhooksClient:
    """The webhooks of a project on a service.

    The client's *send* makes the requests, and raises when the service refuses.
    """

    def __init__(self, send: Callable[..., Any]) -> None:
        self._send = send

    def list(self) -> tuple[Json, ...]:
        """Return the webhooks, oldest first."""
        return tuple(self._json("GET", "")["data"])

    def create(self, url: str, events: Sequence[str], *, description: str = "") -> Json:
        """Register an address; the answer alone holds the signing secret."""
        return self._json("POST", "", json={"url": url, "events": list(events), "description": description})

    def change(self, webhook_id: str, **changes: Any) -> Json:
        """Change *url*, *events*, *description* or *enabled*; return the webhook."""
        return self._json("PATCH", f"/{webhook_id}", json=changes)

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook with its deliveries."""
        self._send("DELETE", f"/v1/webhooks/{webhook_id}")

    def rotate(self, webhook_id: str) -> Json:
        """Give a webhook a new secret; return the webhook with it."""
        return self._json("POST", f"/{webhook_id}/rotate")

    def test(self, webhook_id: str) -> Json:
        """Have a test event sent; return its delivery as it stands."""
        return self._json("POST", f"/{webhook_id}/test")

    def deliveries(self, webhook_id: str) -> Iterator[Json]:
        """Yield the deliveries, newest first, page after page."""
        cursor: str | None = None
        while True:
            params: Json = {"limit": 100} if cursor is None else {"limit": 100, "cursor": cursor}
            page = self._json("GET", f"/{webhook_id}/deliveries", params=params)
            yield from page["data"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return

    def _json(self, method: str, path: str, **request: Any) -> Json:
        answer: Json = self._send(method, f"/v1/webhooks{path}", **request).json()
        return answer
