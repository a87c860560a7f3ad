"""Routes that log a browser in by a one-time link, and out."""

from __future__ import annotations

from fastapi import Request, Response
from retort.access import ANY_KEY, LINK_PREFIX, PUBLIC, Principal, is_secret
from retort.db import keys
from retort.db.keys import LinkUsed, NewKey
from retort.db.session import database_now

from retort_api.audit import address_of
from retort_api.deps import AppState, Caller, Router, Serving
from retort_api.errors import CREATED, NO_CONTENT, documented
from retort_api.keyring import SESSION_COOKIE
from retort_api.schemas.keys import LoggedIn, Login, LoginLink

router = Router("keys")

LINK_S = 600.0
"""A link that nobody has opened by then is void."""
_NEXT = "/"


@router.post(
    "/v1/login-links", scope=ANY_KEY, status_code=CREATED, response_model=LoginLink,
    responses=documented("bad_parameter", "database_unavailable"),
)  # fmt: skip
def create_login_link(service: Serving, caller: Caller, response: Response) -> LoginLink:
    """Make a link that logs a browser in as the caller: once, and within ten minutes."""
    with service.begin(caller) as session:
        now = database_now(session)
        ends = now + LINK_S
        wanted = NewKey(
            name="browser", role=caller.role, project=caller.project, owner=caller.owner, scopes=caller.scopes,
            expires_at=ends, kind="link", parent_id=caller.key_id, created_by=caller.owner,
        )  # fmt: skip
        _, secret = keys.create(session, wanted, now=now)
    response.headers["Cache-Control"] = "no-store"
    return LoginLink.model_validate({"path": f"/login#{secret}", "expires_at": ends})


@router.post(
    "/login", scope=PUBLIC, response_model=LoggedIn, include_in_schema=False,
    responses=documented("link_used", "unreadable_body", "bad_parameter", "rate_limited", "database_unavailable"),
)  # fmt: skip
def log_in(service: Serving, request: Request, response: Response, login: Login) -> LoggedIn:
    """Exchange the secret of a one-time link for the cookie of a browser's session."""
    if not is_secret(login.token, LINK_PREFIX):
        raise LinkUsed("this is no link of the service", hint="make one: retort login --browser")
    service.rates.count_login(address_of(request.scope))
    with service.database.begin() as session:
        now = database_now(session)
        row, secret = keys.open_session(session, login.token, now=now, session_s=service.settings.session_s)
    set_session(response, secret, (row.expires_at or now) - now, secure=is_secure(service, request))
    response.headers["Cache-Control"] = "no-store"
    return LoggedIn.model_validate({"next": _NEXT, "expires_at": row.expires_at})


def is_secure(service: AppState, request: Request) -> bool:
    """Return True if browsers reach the service by https."""
    return request.url.scheme == "https" or service.settings.url.startswith("https:")


def set_session(response: Response, secret: str, seconds: float, *, secure: bool) -> None:
    """Give a browser the cookie of its session."""
    # Lax, for the links in a report: a sandboxed page is of another site. Changes are refused by their origin.
    response.set_cookie(
        SESSION_COOKIE, secret, max_age=int(seconds), path="/", secure=secure, httponly=True, samesite="lax"
    )  # fmt: skip


@router.post("/v1/logout", scope=ANY_KEY, status_code=NO_CONTENT, responses=documented("bad_parameter"))
def log_out(service: Serving, caller: Caller) -> Response:
    """End a browser's session, or the key that a login on the command line gave. Other keys are revoked elsewhere."""
    answer = Response(None, NO_CONTENT)
    if end_login(service, caller):
        answer.delete_cookie(SESSION_COOKIE, path="/")
    return answer


def end_login(service: AppState, caller: Principal) -> bool:
    """End what a login has given *caller*; return False where they came by something else."""
    if caller.from_login:
        with service.begin(caller) as session:
            keys.revoke(session, caller.key_id, now=database_now(session))
        service.keys.forget()
    return caller.from_login
