"""Route pages and the forms on them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from retort.access import Admission, Scope, Unauthorized
from retort.errors import UserError
from starlette.routing import BaseRoute
from starlette.types import Receive, Send
from starlette.types import Scope as ScopeMap

from retort_api.deps import GuardedRoute, Router
from retort_api.errors import KINDS, leaves
from retort_api.pages.refused_form import FIELDS_OF_CODES, RefusedForm

FORM_LIMIT = 1 << 20
"""Largest body of a form in bytes, but for those that send files."""
UNSENT = "unsent"
"""Where a request keeps the fields of a form whose session has ended, so that nothing typed is lost."""
REFUSED = "refused_form"
"""Where a request keeps the form that is shown once more."""
_BAD = "bad_parameter"
_MENDABLE = frozenset({400, 409, 422})
"""Statuses of what people can put right in the form."""
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
    shown_on: str | None = None
    """Path of the page that shows the form once more, with what was typed, where it is refused."""
    neighbours: Sequence[BaseRoute] = ()
    """Routes among which that page is."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what takes the form, or shows it once more."""
        take = super().get_route_handler()

        async def handler(request: Request) -> Response:
            if self.shown_on is None or not request.headers.get("content-type", "").startswith(_TYPED.decode()):
                return await take(request)
            body = await request.body()
            try:
                return await take(request)
            except (UserError, RequestValidationError) as error:
                status = KINDS[_BAD].status if isinstance(error, RequestValidationError) else _status(error)
                if status not in _MENDABLE and getattr(error, "code", None) not in FIELDS_OF_CODES:
                    raise
                pairs = parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
                shown = await self._page(request, RefusedForm.of(request.url.path, pairs, error))
                shown.status_code = status
                return shown

        return handler

    async def _page(self, request: Request, refused: RefusedForm) -> Response:
        """Return the page with the form."""
        page = next(
            route for route in self.neighbours
            if isinstance(route, PageRoute) and route.path == self.shown_on and "GET" in (route.methods or ())
        )  # fmt: skip
        request.state.principal.demand(page.demanded)
        scope = {**request.scope, "method": "GET", "query_string": b"", "route": page}
        scope["state"] = {**request.scope["state"], REFUSED: refused}
        return await page.get_route_handler()(Request(scope, request.receive))

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


def _status(error: UserError) -> int:
    known = KINDS.get(error.code)
    return known.status if known is not None else KINDS["bad_request"].status


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

    def form(
        self, path: str, *, scope: Scope | Admission, limit: int = FORM_LIMIT, shown_on: str | None = None
    ) -> Callable[[Endpoint], Endpoint]:
        """Register where a form of at most *limit* bytes is sent.

        Its answer leads to a page. The page at *shown_on* has the form, and shows it once more where it is refused.
        """

        def register(endpoint: Endpoint) -> Endpoint:
            route = self._add(FormRoute, "POST", path, endpoint, scope)
            assert isinstance(route, FormRoute)
            route.limit, route.shown_on, route.neighbours = limit, shown_on, self.routes
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
