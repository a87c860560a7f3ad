"""Render pages from templates, and answer forms with the way to a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from itsdangerous import BadData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from retort import __version__
from retort.access import Admission, Principal, Scope
from retort.page_text import spelled

from retort_api import static_files
from retort_api.deps import AppState, guarded
from retort_api.errors import OK, Problem
from retort_api.origin import OWN_PATH, SAFE_METHODS
from retort_api.pages import words
from retort_api.pages.page_router import REFUSED, UNSENT, PageRoute

PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types retort"
)
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "Referrer-Policy": "same-origin",  # with none at all, browsers send forms with the origin "null"
    "Cache-Control": "no-store",
    "Vary": "Cookie",
}
THEMES = ("auto", "light", "dark")
THEME_COOKIE, FLASH_COOKIE = "retort_theme", "retort_flash"
LOG_OUT = "/logout"
SEE_OTHER = 303
_UNAUTHORIZED = 401
_FLASH_S = 60
_LONGEST_FLASH = 300
_PURPOSE = "retort.flash"
_TEMPLATES = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """Entry of the navigation on every page."""

    name: str
    title: str
    path: str
    scope: Scope | Admission


_ENTRIES = (
    ("jobs", "Jobs", "/"),
    ("new", "New job", "/new"),
    ("data", "Data", "/data"),
    ("models", "Models", "/models"),
    ("workers", "Workers", "/workers"),
    ("settings", "Settings", "/settings"),
    ("docs", "Docs", "/docs"),
)


def navigation(app: FastAPI) -> tuple[NavigationEntry, ...]:
    """Return the entries whose pages the service has."""
    scopes = {route.path: route.demanded for route in guarded(app.routes) if "GET" in (route.methods or ())}
    found = ((name, title, path, scopes.get(path)) for name, title, path in _ENTRIES)
    return tuple(NavigationEntry(name, title, path, scope) for name, title, path, scope in found if scope is not None)


@cache
def environment() -> Environment:
    """Return the templates, which escape all that they are given."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=spelled,
    )  # fmt: skip
    named = (
        "state",
        "symbol",
        "stage",
        "duration",
        "age",
        "time",
        "iso",
        "size",
        "share",
        "points",
        "signed",
        "number",
    )
    made.filters |= {name: getattr(words, name) for name in named}
    made.globals |= {"static": static_files.address, "version": __version__, "count": words.count}
    return made


def render(
    request: Request, template: str, *, title: str, current: str = "", status: int = OK, **given: Any
) -> HTMLResponse:
    """Return the page that a template makes.

    Args:
        request: what is answered.
        template: its file.
        title: of the page; the base template adds the service's name.
        current: name of its entry in the navigation.
        status: of the answer.
        given: values for the template.

    """
    caller: Principal | None = getattr(request.state, "principal", None)
    may = _permission(caller)
    said = _flash(request)
    offered = [] if caller is None else [entry for entry in request.app.state.navigation if may(entry.scope)]
    page = environment().get_template(template).render(
        title=title, current=current, caller=caller, can=may, navigation=offered, theme=_theme(request), flash=said,
        here=here(request), refused_form=getattr(request.state, REFUSED, None), **given,
    )  # fmt: skip
    answer = HTMLResponse(page, status, HEADERS)
    if said is not None:
        answer.delete_cookie(FLASH_COOKIE, path="/", httponly=True, samesite="lax")
    return answer


def _permission(caller: Principal | None) -> Callable[[str], bool]:
    def may(scope: str) -> bool:
        return caller is not None and (isinstance(scope, Admission) or Scope(scope) in caller.scopes)

    return may


def here(request: Request) -> str:
    """Return the path and query of a page."""
    path = quote(request.url.path, safe="/:@!$&'()*+,;=-._~")
    return f"{path}?{request.url.query}" if request.url.query else path


def own_path(path: str | None, otherwise: str = "/") -> str:
    """Return *path* where it is one of this service's."""
    return path if path is not None and re.fullmatch(OWN_PATH, path) else otherwise


def see_other(request: Request, path: str, said: str = "") -> RedirectResponse:
    """Lead a browser to a page, which says once what has been done."""
    answer = RedirectResponse(path, SEE_OTHER, HEADERS)
    if said:
        service: AppState = request.app.state.service
        stamped = service.links.stamper(_PURPOSE).dumps(said[:_LONGEST_FLASH])
        answer.set_cookie(FLASH_COOKIE, str(stamped), max_age=_FLASH_S, path="/", httponly=True, samesite="lax")
    return answer


def _flash(request: Request) -> str | None:
    given = request.cookies.get(FLASH_COOKIE)
    if given is None:
        return None
    service: AppState = request.app.state.service
    try:
        said = service.links.stamper(_PURPOSE).loads(given, max_age=_FLASH_S)
    except BadData:
        return None
    return said if isinstance(said, str) else None


def _theme(request: Request) -> str:
    wanted = request.cookies.get(THEME_COOKIE, "")
    return wanted if wanted in THEMES else THEMES[0]


def page_of_problem(request: Request, problem: Problem) -> Response | None:
    """Return *problem* as a page; None where a program has asked."""
    if not _is_looked_at(request):
        return None
    if problem.status == _UNAUTHORIZED and request.method in SAFE_METHODS:
        return RedirectResponse(f"/login?{urlencode({'next': here(request)})}", SEE_OTHER, HEADERS)
    if problem.status == _UNAUTHORIZED and (request.method, request.url.path) == ("POST", LOG_OUT):  # done already
        return RedirectResponse("/login", SEE_OTHER, HEADERS)
    back, unsent = own_path(_referred(request)), getattr(request.state, UNSENT, None)
    return render(
        request, "problem.html", title=problem.title, status=problem.status, problem=problem, back=back, unsent=unsent
    )  # fmt: skip


def _is_looked_at(request: Request) -> bool:
    """Return True on pages, and where a browser shows the answer to a person."""
    if isinstance(request.scope.get("route"), PageRoute):
        return True
    shown = request.headers.get("sec-fetch-dest", "document") == "document"
    asks = "text/html" in request.headers.get("accept", "") and shown and request.method in SAFE_METHODS
    return asks and (not request.url.path.startswith("/v1/") or "sec-fetch-dest" in request.headers)


def _referred(request: Request) -> str | None:
    """Return the page from which a browser came, where it is one of ours."""
    referrer = request.headers.get("referer", "")
    own = f"{request.url.scheme}://{request.url.netloc}"
    return referrer.removeprefix(own) if referrer.startswith(f"{own}/") else None
