"""Routes that log people in at an OpenID provider."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import astuple
from html import escape
from typing import Annotated, Any

import structlog
from authlib.common.security import generate_token
from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from itsdangerous import BadData
from retort.access import PUBLIC
from retort.db import audit, keys
from retort.db.audit import Act
from retort.db.identity_models import KeyRow
from retort.db.keys import Kind, NewKey, ProjectNotFound
from retort.db.session import database_now
from retort.errors import RetortError
from starlette.concurrency import run_in_threadpool

from retort_api import static_files
from retort_api.audit import address_of
from retort_api.deps import AppState, Router, Serving
from retort_api.errors import ACCEPTED, CREATED, KINDS, documented
from retort_api.file_response import DOCS_POLICY
from retort_api.id_tokens import LoginRefused
from retort_api.origin import OWN_PATH
from retort_api.people import Person, admit
from retort_api.provider import BrowserLogin, ProviderAway, StillPending
from retort_api.rates import RateLimited
from retort_api.routes.login import is_secure, set_session
from retort_api.schemas.keys import (
    DeviceCode,
    DeviceLogin,
    DeviceWaiting,
    Key,
    KeyWithSecret,
    LoginWays,
    ProviderAnswer,
)

router = Router("keys")
returning = Router("keys", any_query=True)
"""Where providers send browsers, with what else they like in the address."""

ATTEMPT_S = 600
"""A login that is not finished by then has to begin again."""
_BEGIN, _DEVICE = "/login/oidc", "/v1/login/device"
_PURPOSE = "retort.login"
_SECRET_LENGTH = 48
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title} · Retort</title>
<link rel="stylesheet" href="{style}">
<main class="narrow">
<h1>{title}</h1>
<p class="notice bad" role="alert">{message}</p>
<p>{hint}</p>
<p><a class="button" href="/login">Back to the login</a></p>
</main>
</html>
"""
_HEADERS = {
    "Content-Security-Policy": DOCS_POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
}  # fmt: skip
_SEE_OTHER = 303
_WEB = re.compile(r"https?://[!-~]+")
_log = structlog.get_logger("retort.api")


@router.readable(
    "/v1/login", scope=PUBLIC, response_model=LoginWays, responses=documented("bad_parameter"),
)  # fmt: skip
async def get_login_ways(service: Serving) -> LoginWays:
    """Say how people can log in: at which provider, in a browser and without one."""
    issuer = service.settings.oidc_issuer or None
    return LoginWays(issuer=issuer, browser=issuer and _BEGIN, device=issuer and _DEVICE)


@router.get(_BEGIN, scope=PUBLIC, include_in_schema=False)
async def begin_login(
    service: Serving, request: Request,
    after: Annotated[str, Query(alias="next", pattern=OWN_PATH, max_length=2048)] = "/",
) -> Response:  # fmt: skip
    """Send a browser to the provider, bound to this login by a cookie."""
    provider = service.provider
    state, nonce, verifier = (generate_token(_SECRET_LENGTH) for _ in range(3))
    attempt = BrowserLogin(state, nonce, verifier, after)
    try:
        service.rates.count_login(address_of(request.scope))
        answer = RedirectResponse(await provider.authorization_url(attempt), _SEE_OTHER, _HEADERS)
    except (ProviderAway, RateLimited) as error:
        return _page(error)
    secure = is_secure(service, request)
    stamped = service.links.stamper(_PURPOSE).dumps(list(astuple(attempt)))
    answer.set_cookie(
        _cookie(secure), str(stamped), max_age=ATTEMPT_S, path="/", secure=secure, httponly=True, samesite="lax"
    )  # fmt: skip
    return answer


@returning.get(f"{_BEGIN}/callback", scope=PUBLIC, include_in_schema=False)
async def finish_login(
    service: Serving, request: Request, said: Annotated[ProviderAnswer, Query()],
) -> Response:  # fmt: skip
    """Log in the browser that the provider has sent back."""
    provider = service.provider
    act = _act(service, request, "finish_login")
    try:
        service.rates.count_login(address_of(request.scope))
        attempt = _attempt(service, request, said.state)
        if said.error or not said.code or said.iss not in {"", service.settings.oidc_issuer}:
            denied = said.error == "access_denied"
            told = "you, or the provider, have refused it" if denied else "the provider's answer is not one to a login"
            raise LoginRefused(told, hint="begin again, or ask the operator of this service")
        claims = await provider.redeem(said.code, attempt)
        act.owner = _told_name(claims)
        person = admit(claims, service.settings)
        row, secret = await run_in_threadpool(_make, service, act, person, "session", "browser")
    except RetortError as refusal:
        await _write_down(service, act, refusal)
        answer: Response = _page(refusal)
    else:
        answer = RedirectResponse(attempt.next, _SEE_OTHER, _HEADERS)
        lasts_s = (row.expires_at or row.created_at) - row.created_at
        set_session(answer, secret, lasts_s, secure=is_secure(service, request))
    answer.delete_cookie(_cookie(secure := is_secure(service, request)), path="/", secure=secure, httponly=True)
    return answer


@router.post(
    _DEVICE, scope=PUBLIC, status_code=CREATED, response_model=DeviceLogin,
    responses=documented("not_found", "bad_parameter", "login_refused", "rate_limited", "login_unavailable"),
)  # fmt: skip
async def begin_device_login(service: Serving, request: Request, response: Response) -> DeviceLogin:
    """Begin to log in without a browser: a person approves it in any browser, by the code."""
    provider = service.provider
    service.rates.count_login(address_of(request.scope))
    said = await provider.begin_device()
    complete = said.get("verification_uri_complete")
    places = [place for place in (said["verification_uri"], complete) if place is not None]
    if not all(isinstance(place, str) and _WEB.fullmatch(place) for place in places):
        raise ProviderAway("nobody can log in at the moment: the provider names no address for the code")
    response.headers["Cache-Control"] = "no-store"
    return DeviceLogin(
        device_code=said["device_code"], user_code=said["user_code"], verification_uri=said["verification_uri"],
        verification_uri_complete=complete, expires_in_s=_seconds(said.get("expires_in"), ATTEMPT_S),
        interval_s=_seconds(said.get("interval"), 5.0),
    )  # fmt: skip


@router.post(
    f"{_DEVICE}/key", scope=PUBLIC, status_code=CREATED, response_model=KeyWithSecret,
    responses={
        ACCEPTED: {"model": DeviceWaiting},
        **documented(
            "not_found", "unreadable_body", "bad_parameter", "login_refused", "login_expired", "rate_limited",
            "login_unavailable", "database_unavailable",
        ),
    },
)  # fmt: skip
async def finish_device_login(service: Serving, request: Request, response: Response, asked: DeviceCode) -> Any:
    """Exchange an approved device code for a key of the person, which ends as a browser's session does."""
    provider = service.provider
    act = _act(service, request, "finish_device_login")
    try:
        service.rates.count_login(address_of(request.scope))
        found = await provider.finish_device(asked.device_code)
        if isinstance(found, StillPending):
            state = "slow_down" if found.slow_down else "pending"
            return JSONResponse({"state": state}, ACCEPTED, {"Cache-Control": "no-store"})
        act.owner = _told_name(found)
        person = admit(found, service.settings)
        row, secret = await run_in_threadpool(_make, service, act, person, "login", asked.name)
    except RetortError as refusal:
        await _write_down(service, act, refusal)
        raise
    response.headers["Cache-Control"] = "no-store"
    return KeyWithSecret.model_validate({**Key.of(row).model_dump(), "secret": secret})


def _told_name(claims: Mapping[str, Any]) -> str:
    """Return how to write down somebody of whom it is open whether they may come in."""
    email = claims.get("email")
    return (email if isinstance(email, str) and email else str(claims["sub"]))[:63]


def _attempt(service: AppState, request: Request, state: str) -> BrowserLogin:
    """Return the login that this browser has begun, and the provider sends back."""
    given = request.cookies.get(_cookie(is_secure(service, request)), "")
    try:
        attempt = BrowserLogin(*service.links.stamper(_PURPOSE).loads(given, max_age=ATTEMPT_S))
    except (BadData, TypeError) as error:
        hint = f"begin at {service.settings.url}/login, under this very name, and allow cookies"
        raise LoginRefused("this browser has begun no login, or too long ago", hint=hint) from error
    if not hmac.compare_digest(attempt.state.encode(), state.encode()):
        raise LoginRefused("this is not the login that this browser has begun last", hint="begin again")
    return attempt


def _make(service: AppState, act: Act, person: Person, kind: Kind, name: str) -> tuple[KeyRow, str]:
    """Make what a person comes in with, and write that down."""
    act.owner, act.project = person.owner, person.project
    with audit.acting(None), service.database.begin() as session:
        now = database_now(session)
        wanted = NewKey(
            name=name, role=person.role, project=person.project, owner=person.owner, kind=kind,
            expires_at=now + service.settings.session_s, created_by=person.owner,
        )  # fmt: skip
        try:
            row, secret = keys.create(session, wanted, now=now)
        except ProjectNotFound as error:
            hint = "ask the operator of this service to make it"
            raise LoginRefused(f"your project {person.project!r} does not exist here", hint=hint) from error
        act.key_id, act.target = row.id, person.role.value
        audit.write(session, act, now=now)
    return row, secret


def _act(service: AppState, request: Request, action: str) -> Act:
    return Act(
        project=service.settings.login_project, owner="", key_id="", action=action, address=address_of(request.scope),
        request_id=request.state.request_id,
    )  # fmt: skip


async def _write_down(service: AppState, act: Act, refusal: RetortError) -> None:
    """Write a refusal down, but not that somebody was told to wait."""
    if not isinstance(refusal, RateLimited | ProviderAway):
        _log.info("login_refused", why=refusal.message, address=act.address)
        await service.refusals.add(act, refusal.code)


def _page(error: RetortError) -> HTMLResponse:
    kind = KINDS[error.code if error.code in KINDS else "unavailable"]
    page = _PAGE.format(
        title=escape(kind.title), message=escape(error.message), hint=escape(error.hint or ""),
        style=static_files.address("retort.css"),
    )  # fmt: skip
    return HTMLResponse(page, kind.status, {**_HEADERS, **getattr(error, "headers", {})})


def _cookie(secure: bool) -> str:
    """Return the cookie's name; by https one that no neighbouring host can set."""
    return "__Host-retort_login" if secure else "retort_login"


def _seconds(found: Any, otherwise: float) -> float:
    usable = isinstance(found, int | float) and not isinstance(found, bool) and 0 < found <= ATTEMPT_S * 6
    return float(found) if usable else otherwise
