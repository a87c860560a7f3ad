"""Show sessions and API keys; make, replace and revoke keys, end sessions."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Form, Path, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from retort.access import ANY_KEY, NAME, SCOPES, ClientRole, Forbidden, Scope
from retort.db import keys
from retort.db.keys import KeyNotFound
from retort.db.session import database_now

from retort_api.deps import Caller, Serving
from retort_api.errors import CREATED
from retort_api.http import Cursor, Limit
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render, see_other
from retort_api.routes import keys as key_routes
from retort_api.routes.health import get_readiness
from retort_api.schemas.keys import KeyRequest, KeyWithSecret, Label, ProjectRequest, RotateRequest

router = PageRouter()

_DAY_S = 86_400.0
_GRACE_DAYS = 1.0
KeyIdField = Annotated[str, Field(pattern=r"^key_[0-9a-f]{32}$")]


def _nothing(given: Any) -> Any:
    return None if given == "" else given


OrNothing = BeforeValidator(_nothing)
"""For fields of forms that may be left empty."""
OwnName = Annotated[str | None, OrNothing, Field(pattern=rf"^{NAME}$")]


ApiKeyId = Annotated[str, Path(pattern=r"^key_[0-9a-f]{32}$")]


class NewKeyForm(BaseModel):
    """The form that makes a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Label
    role: ClientRole
    project: OwnName = None
    owner: OwnName = None
    days: Annotated[float | None, OrNothing, Field(gt=0, le=3650)] = None
    """Until it expires."""
    scopes: list[Scope] = Field(default_factory=list)
    """Fewer than the role's; none chosen is all of them."""


class RotateForm(BaseModel):
    """The form that replaces a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grace_days: Annotated[float, Field(ge=0, le=30)] = _GRACE_DAYS


class SessionForm(BaseModel):
    """The form that ends a session."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session: KeyIdField


@router.page("/settings", scope=ANY_KEY)
def show_settings(request: Request, service: Serving, caller: Caller) -> Response:
    """Show who one is here, the open sessions, and how the service stands."""
    with service.read(caller) as session:
        opened = keys.sessions(session, now=database_now(session), owner=None if caller.is_operator else caller.owner)
    ready = get_readiness(service, caller, Response()) if Scope.SERVICE_READ in caller.scopes else None
    return render(
        request, "settings.html", title="Settings", current="settings", section="", sessions=opened, ready=ready,
        scopes=sorted(caller.scopes), now=time.time(),
    )  # fmt: skip


@router.form("/settings/sessions/end", scope=ANY_KEY)
def end_session_by_form(
    request: Request, service: Serving, caller: Caller, asked: Annotated[SessionForm, Form()]
) -> Response:
    """End a session of a browser: one's own, or any for operators."""
    with service.begin(caller) as session:
        row = keys.get(session, asked.session)
        if row.kind != "session" or not (caller.is_operator or row.owner == caller.owner):
            raise KeyNotFound(f"there is no session {asked.session}", hint="the page of settings lists them")
        keys.revoke(session, asked.session, now=database_now(session))
    service.keys.forget()
    return see_other(request, "/settings", "The session has ended")


@router.page("/settings/keys", scope=Scope.SERVICE_OPERATE)
def show_keys(
    *, request: Request, service: Serving, caller: Caller, limit: Limit = 50, cursor: Cursor = None
) -> Response:  # fmt: skip
    """Show the API keys, and the forms that make, replace and revoke them."""
    found = key_routes.list_keys(service, caller, Response(), limit=limit, cursor=cursor)
    return render(
        request, "settings_keys.html", title="API keys", current="settings", section="keys", keys=found.data,
        cursor=found.next_cursor, projects=key_routes.list_projects(service, caller).data, roles=list(ClientRole),
        offered={role: sorted(SCOPES[role]) for role in ClientRole}, all_scopes=sorted(caller.scopes),
        grace_days=_GRACE_DAYS, now=time.time(),
    )  # fmt: skip


@router.form("/settings/keys", scope=Scope.SERVICE_OPERATE, shown_on="/settings/keys")
def create_key_by_form(
    request: Request, service: Serving, caller: Caller, asked: Annotated[NewKeyForm, Form()]
) -> Response:
    """Make a key; the page that answers shows its secret, once."""
    wanted = KeyRequest(
        name=asked.name, role=asked.role, project=asked.project, owner=asked.owner, scopes=tuple(asked.scopes) or None,
        expires_in_s=None if asked.days is None else asked.days * _DAY_S,
    )  # fmt: skip
    return _secret(request, key_routes.create_key(service, caller, Response(), wanted))


@router.form("/settings/keys/{key_id}/rotate", scope=Scope.SERVICE_OPERATE)
def rotate_key_by_form(
    request: Request, service: Serving, caller: Caller, key_id: ApiKeyId, asked: Annotated[RotateForm, Form()]
) -> Response:
    """Replace a key; the page that answers shows the new secret, once."""
    wanted = RotateRequest(grace_s=asked.grace_days * _DAY_S)
    return _secret(request, key_routes.rotate_key(service, caller, key_id, Response(), wanted))


def _secret(request: Request, made: KeyWithSecret) -> Response:
    return render(
        request, "settings_secret.html", title="A new key", current="settings", section="keys", status=CREATED,
        secret=made.secret, what=f"The key {made.name}", back="/settings/keys",
        use=f"export RETORT_KEY={made.secret}",
    )  # fmt: skip


@router.form("/settings/keys/{key_id}/revoke", scope=Scope.SERVICE_OPERATE)
def revoke_key_by_form(request: Request, service: Serving, caller: Caller, key_id: ApiKeyId) -> Response:
    """End a key, and the sessions that were opened with it."""
    if key_id == caller.key_id:
        raise Forbidden("this is the key with which you are here", hint="revoke it with another one")
    ended = key_routes.revoke_key(service, caller, key_id)
    return see_other(request, "/settings/keys", f"The key {ended.name} is revoked")


@router.form("/settings/projects", scope=Scope.SERVICE_OPERATE, shown_on="/settings/keys")
def create_project_by_form(
    request: Request, service: Serving, caller: Caller, name: Annotated[str, Form(pattern=rf"^{NAME}$")]
) -> Response:
    """Make a project."""
    key_routes.create_project(service, caller, ProjectRequest(name=name))
    return see_other(request, "/settings/keys", f"There is a project {name} now")
