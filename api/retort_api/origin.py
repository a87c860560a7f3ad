"""Refuse requests for other hosts, and changes that another site's page asks for."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from urllib.parse import urlsplit

from fastapi import Request
from retort.settings import Settings
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from retort_api import errors

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_PORTS = {"http": 80, "https": 443}
_OUR_FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_FORM_TYPES = _OUR_FORM_TYPES | {"text/plain"}
"""What any page may send to any address without being asked (Fetch standard, CORS-safelisted)."""
OWN_PATH = r"^/([!-.0-\[\]-~][!-\[\]-~]*)?$"
"""A path of this service: neither //host nor a backslash, which browsers take for the same."""


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port as a client names them."""

    host: str
    port: int | None

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, value: str) -> Address | None:
        """Return the address in a Host header, or None where it is malformed."""
        with suppress(ValueError):
            parts = urlsplit(f"//{value}")
            plain = parts.netloc == value and "@" not in value and not value.endswith(":")
            if plain and parts.hostname:
                return cls(parts.hostname.rstrip("."), parts.port)
        return None

    def at_port(self, scheme: str) -> int | None:
        """Return the port, or the one that *scheme* stands for."""
        return self.port if self.port is not None else _PORTS.get(scheme)


@dataclass(frozen=True)
class AllowedHosts:
    """Names and addresses under which the service answers."""

    settings: Settings

    @cached_property
    def names(self) -> frozenset[str]:
        """Configured host names, in lower case."""
        named = [urlsplit(self.settings.url).hostname, self.settings.host, *self.settings.allowed_hosts]
        return frozenset(name.lower().strip("[]").rstrip(".") for name in named if name) | {"localhost"}

    @cached_property
    def secure_host(self) -> str | None:
        """Host that is only ever reached by https, if there is one."""
        parts = urlsplit(self.settings.url)
        return parts.hostname if parts.scheme == "https" else None

    def has(self, address: Address, local: str | None) -> bool:
        """Return True if the service answers to *address*; the client has connected to *local*."""
        if address.host in self.names:
            return True
        with suppress(ValueError):
            given = ipaddress.ip_address(address.host)
            return given.is_loopback or (local is not None and given == ipaddress.ip_address(local))
        return False

    def is_own(self, origin: str, host: Address) -> bool:
        """Return True if *origin* is that of the service, reached as *host*."""
        with suppress(ValueError):
            parts = urlsplit(origin)
            page = Address.parse(parts.netloc)
            if page is None or parts.scheme not in _PORTS or origin != f"{parts.scheme}://{parts.netloc}":
                return False
            if page.host == self.secure_host and parts.scheme != "https":
                return False
            return page.host == host.host and page.at_port(parts.scheme) == host.at_port(parts.scheme)
        return False


class OriginMiddleware:
    """Middleware that refuses foreign hosts and foreign pages.

    A name that an attacker points at this machine is no address of ours, so DNS rebinding ends here; a page of another
    site can read what it likes of its own, but change nothing here, with a body or without.

    Args:
        app: what is wrapped.
        settings: name the hosts.
        takes_form: says of a path whether a form on a page of ours is sent there. Only there may bodies be of the types
            that forms send, and only where the browser says that one of our own pages sends them.

    """

    def __init__(self, app: ASGIApp, settings: Settings, takes_form: Callable[[str], bool]) -> None:
        self._app = app
        self._hosts = AllowedHosts(settings)
        self._takes_form = takes_form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        assert scope["type"] == "http", "the server is told to speak HTTP alone"
        headers = Headers(scope=scope)
        refusal = self._refuse_host(scope, headers)
        if refusal is None and scope["method"] not in SAFE_METHODS:
            refusal = self._refuse_page(headers) or self._refuse_body(scope, headers)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        code, detail, hint = refusal
        await errors.answer(Request(scope), code, detail, hint=hint)(scope, receive, send)

    def _refuse_host(self, scope: Scope, headers: Headers) -> tuple[str, str, str] | None:
        named = headers.getlist("host")
        address = Address.parse(named[0].lower()) if len(named) == 1 else None
        local = (scope.get("server") or (None,))[0]
        if address is not None and self._hosts.has(address, local):
            return None
        told = f"{named[0]!r} is no address of this service" if len(named) == 1 else "the request names no single Host"
        return "host_not_allowed", told, "the operator names further addresses in RETORT_URL and RETORT_ALLOWED_HOSTS"

    def _refuse_page(self, headers: Headers) -> tuple[str, str, str] | None:
        hint = "send changes from the service's own pages, or from a program"
        site = headers.get("sec-fetch-site", "none")
        if site not in {"same-origin", "none"}:
            return "cross_site", f"a page of another site asks for this change (Sec-Fetch-Site: {site})", hint
        host = Address.parse(headers["host"].lower())
        assert host is not None, "it has been looked at"
        origins = headers.getlist("origin")
        if all(self._hosts.is_own(origin.lower(), host) for origin in origins):
            return None
        return "cross_site", f"a page of another site asks for this change (Origin: {', '.join(origins)})", hint

    def _refuse_body(self, scope: Scope, headers: Headers) -> tuple[str, str, str] | None:
        if scope["method"] == "POST" and self._takes_form(scope["path"]):
            return _refuse_other_than_form(headers)
        return _refuse_form(scope["method"], headers)


def _refuse_other_than_form(headers: Headers) -> tuple[str, str, str] | None:
    """Refuse what is no form of one of our own pages, whose address the page's check has looked at."""
    named = [value.partition(";")[0].strip().lower() for value in headers.getlist("content-type")]
    if len(named) > 1 or (named and named[0] not in _OUR_FORM_TYPES):
        hint = "send it as a form does, or use the JSON interface: /docs"
        return "unsupported_media_type", f"{', '.join(named)} is not what a form sends", hint
    if headers.get("sec-fetch-site") != "same-origin" and "origin" not in headers:
        told = "nothing says that the form stands on a page of this service"
        return "cross_site", told, "send it from the page in a browser, or use the JSON interface: /docs"
    return None


def _refuse_form(method: str, headers: Headers) -> tuple[str, str, str] | None:
    """Refuse bodies of the types that forms send, and those of no type."""
    named = [value.partition(";")[0].strip().lower() for value in headers.getlist("content-type")]
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""
    if any(name in _FORM_TYPES for name in named):
        told = f"{', '.join(named)} is what web forms send"
    elif len(named) > 1:
        told = "the request has several Content-Type headers"
    elif has_body and method == "POST" and not any(named):
        told = "the body has no Content-Type"
    else:
        return None
    return "unsupported_media_type", told, "name the body's type, such as Content-Type: application/json"
