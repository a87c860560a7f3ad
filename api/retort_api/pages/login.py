"""Log a browser in by a key, a link or a provider, and out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Form, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from retort.access import ANY_KEY, PUBLIC, Unauthorized, is_secret
from retort.db import audit, keys
from retort.db.audit import Act
from retort.db.session import database_now
from retort.errors import UserError

from retort_api.audit import address_of
from retort_api.deps import AppState, Caller, Serving
from retort_api.errors import KINDS, OK
from retort_api.keyring import SESSION_COOKIE
from retort_api.origin import OWN_PATH
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import LOG_OUT, THEME_COOKIE, THEMES, own_path, render, see_other
from retort_api.routes.login import end_login, is_secure, set_session

router = PageRouter()

_YEAR_S = 366 * 86_400
Next = Annotated[str, Query(alias="next", pattern=OWN_PATH, max_length=2048)]


class KeyForm(BaseModel):
    """The form that takes an API key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(max_length=200)]
    next: Annotated[str, Field(max_length=2048)] = "/"


class ThemeForm(BaseModel):
    """The form that switches between dark and light."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    theme: Annotated[str, Field(pattern=f"^({'|'.join(THEMES)})$")]
    next: Annotated[str, Field(max_length=2048)] = "/"


@router.page("/login", scope=PUBLIC)
def show_login(request: Request, service: Serving, after: Next = "/") -> Response:
    """Show the ways to log in."""
    return _login_page(request, service, after)


def _login_page(request: Request, service: AppState, after: str, refused: UserError | None = None) -> Response:
    issuer = service.settings.oidc_issuer
    provider = urlsplit(issuer).netloc if issuer else ""
    status = OK if refused is None else KINDS["forbidden"].status
    return render(
        request, "login.html", title="Log in", status=status, provider=provider, next=own_path(after), refused=refused
    )  # fmt: skip


@router.form("/login/key", scope=PUBLIC)
def log_in_by_key(request: Request, service: Serving, asked: Annotated[KeyForm, Form()]) -> Response:
    """Exchange an API key for the cookie of a browser's session."""
    address, secret = address_of(request.scope), asked.key.strip()
    service.rates.count_login(address)
    wrong = Unauthorized("this key is not valid", hint="unknown, expired, revoked or mistyped", invalid=True)
    if not is_secret(secret):
        return _login_page(request, service, asked.next, wrong)
    with audit.acting(None), service.database.begin() as session:
        now = database_now(session)
        made = keys.open_session_by_key(session, secret, now=now, session_s=service.settings.session_s)
        if made is not None:
            row = made[0]
            act = Act(
                project=row.project, owner=row.owner, key_id=row.id, action="log_in_by_key", target=row.role,
                address=address, request_id=request.state.request_id,
            )  # fmt: skip
            audit.write(session, act, now=now)
    if made is None:
        service.rates.count_failure(wrong, address)
        return _login_page(request, service, asked.next, wrong)
    row, secret = made
    answer = see_other(request, own_path(asked.next))
    set_session(answer, secret, (row.expires_at or now) - now, secure=is_secure(service, request))
    return answer


@router.form(LOG_OUT, scope=ANY_KEY)
def log_out_of_pages(request: Request, service: Serving, caller: Caller) -> Response:
    """End the browser's session."""
    end_login(service, caller)
    answer = see_other(request, "/login")
    answer.delete_cookie(SESSION_COOKIE, path="/")
    return answer


@router.form("/theme", scope=PUBLIC)
def switch_theme(request: Request, asked: Annotated[ThemeForm, Form()]) -> Response:
    """Keep which theme this browser wants."""
    answer = see_other(request, own_path(asked.next))
    answer.set_cookie(THEME_COOKIE, asked.theme, max_age=_YEAR_S, path="/", httponly=True, samesite="lax")
    return answer
