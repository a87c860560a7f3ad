"""Believe configured proxies, and nobody else, about who the client is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from retort.access import NAME, SCOPES, ClientRole, Principal, Unauthorized
from retort.settings import Settings
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_PEER = "retort.peer"


class ProxyMiddleware:
    """Middleware that takes the client's address from X-Forwarded-For of trusted proxies.

    The address that has connected is kept beside it.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._proxied = ProxyHeadersMiddleware(app, list(trusted)) if trusted else app  # type: ignore[arg-type]
        self._hosts = ProxyHeadersMiddleware(app, list(trusted)).trusted_hosts  # type: ignore[arg-type]
        self._any = bool(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http":
            client = scope.get("client")
            scope.setdefault("state", {})[_PEER] = self._any and client is not None and client[0] in self._hosts
        await self._proxied(scope, receive, send)  # type: ignore[arg-type]


def vouched(scope: Scope, settings: Settings) -> Principal | None:
    """Return the caller that a trusted proxy has named, or None.

    Raises:
        Unauthorized: somebody else has sent the header, or it names nobody who can be.

    """
    if not settings.trusted_header:
        return None
    named = Headers(scope=scope).getlist(settings.trusted_header)
    if not named:
        return None
    if not scope.get("state", {}).get(_PEER):
        told = f"{settings.trusted_header} is believed from the configured proxies alone (RETORT_TRUSTED_PROXIES)"
        raise Unauthorized("your address may not say who you are", hint=told)
    if len(named) > 1 or not re.fullmatch(NAME, named[0]):
        raise Unauthorized("the proxy has named nobody who can be an owner", hint="1 to 63 letters, digits or . _ @ -")
    role = ClientRole(settings.login_role)
    return Principal(named[0], settings.login_project, role, SCOPES[role], f"proxy:{named[0]}"[:36])
