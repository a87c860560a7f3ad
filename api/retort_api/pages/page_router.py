"""Route pages and the forms on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import HTMLResponse
from retort.access import Admission, Scope, Unauthorized
from retort.errors import UserError
from starlette.routing import BaseRoute
from starlette.types import Receive, Send
from starlette.types import Scope as ScopeMap

from retort_api.deps import GuardedRoute, Router
from retort_api.errors import leaves

FORM_LIMIT = 1 << 20
"""Largest body of a form in bytes, but for those that send files."""
UNSENT = "unsent"
"""Where a request keeps the fields of a form whose session has ended, so that nothing typed is lost."""
_TYPED = b"application/x-www-form-urlencoded"
_MOST_FIELDS = 1000
_PROGRAMS = "/v1/"
"""Where the interface for programs begins."""
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class PageRoute(GuardedRoute):
    """Route of a page, whose errors are pages too.

    A field that was left empty in a form is as if it was not there: browsers send all fields of a search.
    """

    async def handle(self, scope: ScopeMap, receive: Receive, send: Send) -> None:
        """Leave out what is empty in the query, and answer."""
        pairs = scope["query_string"].split(b"&")
        scope["query_string"] = b"&".join(pair for pair in pairs if not pair.endswith(b"="))
        await super().handle(scope, receive, send)


class FormRoute(PageRoute):
    """Route that takes what a form on a page of ours sends."""

    limit = FORM_LIMIT

    async def handle(self, scope: ScopeMap, receive: Receive, send: Send) -> None:
        """Refuse a form that is too large before it is read."""
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"").decode("latin-1")
        if not declared.isdecimal() and b"transfer-encoding" in headers:
            raise UserError("the form does not say how large it is", code="body_too_large", hint="send Content-Length")
        if declared.isdecimal() and int(declared) > self.limit:
            raise UserError(f"the form is larger than {self.limit} bytes", code="body_too_large")
        try:
            await super().handle(scope, receive, send)
        except Unauthorized:
            if headers.get(b"content-type", b"").startswith(_TYPED) and int(declared or 0) <= FORM_LIMIT:
                async with Request(scope, receive).form(max_fields=_MOST_FIELDS) as sent:
                    scope["state"][UNSENT] = [
                        (name, str(value).replace("\r\n", "\n")) for name, value in sent.multi_items()
                    ]
            raise


def form_paths(routes: Iterable[BaseRoute]) -> Callable[[str], bool]:
    """Return what says of a path whether forms are sent there."""
    found = [route for route in leaves(routes) if isinstance(route, FormRoute)]
    assert not any(route.path.startswith(_PROGRAMS) for route in found), "programs send no forms"
    known = [route.path_regex for route in found]
    return lambda path: not path.startswith(_PROGRAMS) and any(pattern.match(path) for pattern in known)


class PageRouter(Router):
    """Routes of pages, left out of the OpenAPI document.

    Args:
        any_query: let unknown query parameters pass.

    """

    def __init__(self, *, any_query: bool = False) -> None:
        super().__init__("pages", any_query=any_query)

    def page(self, path: str, *, scope: Scope | Admission) -> Callable[[Endpoint], Endpoint]:
        """Register a page for GET and HEAD."""

        def register(endpoint: Endpoint) -> Endpoint:
            for method in ("GET", "HEAD"):
                self._add(PageRoute, method, path, endpoint, scope)
            return endpoint

        return register

    def form(self, path: str, *, scope: Scope | Admission, limit: int = FORM_LIMIT) -> Callable[[Endpoint], Endpoint]:
        """Register where a form of at most *limit* bytes is sent.

        Its answer leads to a page.
        """

        def register(endpoint: Endpoint) -> Endpoint:
            route = self._add(FormRoute, "POST", path, endpoint, scope)
            assert isinstance(route, FormRoute)
            route.limit = limit
            return endpoint

        return register

    def _add(
        self, kind: type[PageRoute], method: str, path: str, endpoint: Endpoint, scope: Scope | Admission
    ) -> BaseRoute:
        self.add_api_route(
            path, endpoint, methods=[method], scope=scope, include_in_schema=False, response_model=None,
            response_class=HTMLResponse, route_class_override=kind,
        )  # fmt: skip
        return self.routes[-1]
