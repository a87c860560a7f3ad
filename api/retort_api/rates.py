"""Limit requests of each key, and keys that are tried from each address."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from retort.access import Principal, Unauthorized
from retort.errors import RetortError, UserError
from retort.settings import Settings
from starlette.types import Scope


class RateLimited(RetortError):
    """More is asked for than may be."""

    code = "rate_limited"

    def __init__(self, message: str, *, wait_s: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}


class RateLimits:
    """Counts of one process; operators are not counted.

    Answers carry the headers of draft-ietf-httpapi-ratelimit-headers.
    """

    def __init__(self, settings: Settings) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._requests = _read(settings.rate_limit)
        self._failures = _read(settings.failed_key_limit)
        self._logins = _read(settings.login_limit)

    def count(self, caller: Principal | None, scope: Scope) -> None:
        """Count a request of *caller*.

        Raises:
            RateLimited: there were too many.

        """
        if caller is None or caller.is_operator or self._requests is None:
            return
        allowed = self._limiter.hit(self._requests, "key", caller.key_id)
        reset, left = self._limiter.get_window_stats(self._requests, "key", caller.key_id)
        wait_s = reset - time.time()
        scope.setdefault("state", {})["rate_headers"] = _headers("key", self._requests, left, wait_s)
        if not allowed:
            raise RateLimited(f"this key may ask {_told(self._requests)}", wait_s=wait_s)

    def count_failure(self, error: Unauthorized, address: str) -> None:
        """Count an invalid key; valid ones are never refused for it.

        Raises:
            RateLimited: too many have been tried from the address.

        """
        tried = "invalid_token" in error.headers["WWW-Authenticate"]
        if self._failures is None or not tried or self._limiter.hit(self._failures, "failure", address):
            return
        reset, _ = self._limiter.get_window_stats(self._failures, "failure", address)
        hint = "use a valid key, which is never refused for this"
        raise RateLimited("too many invalid keys came from your address", wait_s=reset - time.time(), hint=hint)

    def count_login(self, address: str) -> None:
        """Count a step of a login, for which no key is needed.

        Raises:
            RateLimited: too many came from the address.

        """
        if self._logins is None or self._limiter.hit(self._logins, "login", address):
            return
        reset, _ = self._limiter.get_window_stats(self._logins, "login", address)
        raise RateLimited("too many logins are tried from your address", wait_s=reset - time.time())


def _read(rate: str) -> RateLimitItem | None:
    try:
        return parse(rate) if rate else None
    except ValueError:
        hint = "such as 100/second, 6000/minute or 5 per hour; empty is no limit"
        raise UserError(f"{rate!r} is no rate", hint=hint, code="bad_settings") from None


def _headers(name: str, item: RateLimitItem, left: int, wait_s: float) -> dict[str, str]:
    """Return the policy and where the caller stands, as structured fields."""
    return {
        "RateLimit-Policy": f'"{name}";q={item.amount};w={item.get_expiry()}',
        "RateLimit": f'"{name}";r={left};t={max(0, math.ceil(wait_s))}',
    }


def _told(item: RateLimitItem) -> str:
    return f"{item.amount} times in {item.get_expiry()} seconds"
