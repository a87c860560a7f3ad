"""Send webhook deliveries: signed, at least once, to addresses that are checked and pinned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import httpx2 as httpx
import structlog
from retort import __version__
from retort.addresses import Network, resolve_target
from retort.db import Database, webhooks
from retort.db.session import database_now
from retort.db.webhooks import Answer, DueDelivery
from retort.errors import RetortError
from standardwebhooks import Webhook

from retort_worker.rounds import Rounds

_AT_A_TIME = 16
_PATIENCE_S = 15.0
"""For one answer, from resolving the name to the last header."""
_HOLD_S = 4 * _PATIENCE_S
_LONGEST_ERROR = 300
_log = structlog.get_logger()


class Deliverer(Rounds):
    """Thread that sends what is due every *look_s* seconds.

    Args:
        database: with webhooks and deliveries.
        trusted: private networks that the operator lets webhooks reach, over plain HTTP as well.
        look_s: pause between looks.

    """

    def __init__(self, database: Database, *, trusted: Sequence[Network], look_s: float) -> None:
        super().__init__("delivering", lambda: self.deliver() == _AT_A_TIME, rest_s=look_s)
        self._database = database
        self._trusted = tuple(trusted)

    def deliver(self) -> int:
        """Send what is due, up to a limit; return the number of deliveries tried."""
        with self._database.read() as session:
            if not webhooks.any_due(session, now=database_now(session)):
                return 0
        with self._database.begin() as session:
            due = webhooks.take(session, now=database_now(session), hold_s=_HOLD_S, limit=_AT_A_TIME)
        answers = asyncio.run(self._send_all(due))
        with self._database.begin() as session:
            now = database_now(session)
            for delivery, answer in zip(due, answers, strict=True):
                webhooks.record(session, delivery, answer, now=now)
        return len(due)

    async def _send_all(self, due: Sequence[DueDelivery]) -> list[Answer]:
        async with httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=_PATIENCE_S) as client:
            return list(await asyncio.gather(*(self._send(client, delivery) for delivery in due)))

    async def _send(self, client: httpx.AsyncClient, delivery: DueDelivery) -> Answer:
        began = time.monotonic()
        status, error = None, None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                target = await asyncio.to_thread(resolve_target, delivery.url, self._trusted)
                headers = {**_headers(delivery), **target.headers}
                async with client.stream(
                    "POST", target.pinned_url, content=delivery.payload.encode(), headers=headers,
                    extensions=target.extensions,
                ) as answer:  # fmt: skip
                    status = answer.status_code
            error = None if 200 <= status < 300 else f"answered {status}"
        except TimeoutError:
            error = f"no answer within {_PATIENCE_S:g} s"
        except (RetortError, httpx.HTTPError, httpx.InvalidURL, OSError) as failure:
            error = f"{type(failure).__name__}: {failure}"[:_LONGEST_ERROR]
        return Answer(status, error, (time.monotonic() - began) * 1000)


def _headers(delivery: DueDelivery) -> dict[str, str]:
    now = datetime.now(UTC)
    signatures = (Webhook(secret).sign(delivery.id, now, delivery.payload) for secret in delivery.secrets)
    return {
        "Content-Type": "application/json", "User-Agent": f"retort/{__version__}", "webhook-id": delivery.id,
        "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": " ".join(signatures),
    }  # fmt: skip
