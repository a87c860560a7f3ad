"""Routes of API keys and projects."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Response
from retort.access import ANY_KEY, Forbidden, Principal, Scope, scopes_of
from retort.db import keys
from retort.db.identity_models import KEY_PREFIX
from retort.db.session import database_now
from retort.errors import UserError

from retort_api.deps import AppState, Caller, Router, Serving
from retort_api.errors import CREATED, documented
from retort_api.http import Cursor, Limit, next_cursor, parse_cursor
from retort_api.schemas.keys import Caller as CallerView
from retort_api.schemas.keys import (
    Key,
    KeyPage,
    KeyRequest,
    KeyWithSecret,
    Project,
    ProjectRequest,
    Projects,
    RotateRequest,
)

router = Router("keys")

_BODIES = ("unreadable_body", "bad_parameter", "database_unavailable")
KeyId = Annotated[str, Path(description="Such as `key_01985a3e7b0c7d4e8f1a2b3c4d5e6f70`.")]


@router.readable("/v1/me", scope=ANY_KEY, response_model=CallerView, responses=documented("bad_parameter"))
async def get_caller(caller: Caller) -> CallerView:
    """Say who the key belongs to, and what it allows."""
    return CallerView.of(caller)


@router.post(
    "/v1/me/rotate", scope=ANY_KEY, status_code=CREATED, response_model=KeyWithSecret,
    responses=documented("key_not_found", "key_ended", *_BODIES),
)  # fmt: skip
def rotate_own_key(service: Serving, caller: Caller, response: Response, wanted: RotateRequest) -> KeyWithSecret:
    """Replace the key of this request by a new one; the old one works for a while yet."""
    if caller.from_login:
        raise UserError("what a login gave is not replaced: log in again", code="key_not_found")
    return _rotate(service, caller, caller.key_id, wanted.grace_s, response)


@router.post(
    "/v1/keys", scope=Scope.SERVICE_OPERATE, status_code=CREATED, response_model=KeyWithSecret,
    responses=documented("forbidden", "project_not_found", *_BODIES),
)  # fmt: skip
def create_key(service: Serving, caller: Caller, response: Response, wanted: KeyRequest) -> KeyWithSecret:
    """Make a key for somebody. Its secret is in this answer, and nowhere else."""
    scopes = scopes_of(wanted.role, wanted.scopes)
    if beyond := sorted(scopes - caller.scopes):
        raise Forbidden(f"this key lacks {', '.join(beyond)}, so it cannot give it", hint="name fewer scopes")
    with service.begin(caller) as session:
        now = database_now(session)
        made = keys.NewKey(
            name=wanted.name, role=wanted.role, project=wanted.project or caller.project,
            owner=wanted.owner or caller.owner, scopes=scopes, created_by=caller.owner,
            expires_at=None if wanted.expires_in_s is None else now + wanted.expires_in_s,
        )  # fmt: skip
        row, secret = keys.create(session, made, now=now)
    return _shown(row, secret, response)


@router.readable(
    "/v1/keys", scope=Scope.SERVICE_OPERATE, response_model=KeyPage,
    responses=documented("bad_parameter", "database_unavailable"),
)  # fmt: skip
def list_keys(
    service: Serving, caller: Caller, response: Response, limit: Limit = 20, cursor: Cursor = None
) -> KeyPage:
    """List API keys, newest first, also those that have ended."""
    with service.read(caller) as session:
        found = keys.page(session, after=parse_cursor(cursor, KEY_PREFIX), limit=limit + 1)
        shown = tuple(Key.of(row) for row in found[:limit])
    cursor = next_cursor(response, found, limit, prefix=KEY_PREFIX, path="/v1/keys")
    return KeyPage(data=shown, next_cursor=cursor, has_more=cursor is not None)


@router.post(
    "/v1/keys/{key_id}/rotate", scope=Scope.SERVICE_OPERATE, status_code=CREATED, response_model=KeyWithSecret,
    responses=documented("forbidden", "key_not_found", "key_ended", *_BODIES),
)  # fmt: skip
def rotate_key(
    service: Serving, caller: Caller, key_id: KeyId, response: Response, wanted: RotateRequest
) -> KeyWithSecret:
    """Replace a key by a new one with the same rights; the old one works for a while yet."""
    return _rotate(service, caller, key_id, wanted.grace_s, response)


@router.post(
    "/v1/keys/{key_id}/revoke", scope=Scope.SERVICE_OPERATE, response_model=Key,
    responses=documented("key_not_found", "bad_parameter", "database_unavailable"),
)  # fmt: skip
def revoke_key(service: Serving, caller: Caller, key_id: KeyId) -> Key:
    """End a key and the sessions of browsers that logged in with it. Again is harmless.

    Other API processes learn of it within five seconds.
    """
    with service.begin(caller) as session:
        row = keys.revoke(session, key_id, now=database_now(session))
        shown = Key.of(row)
    service.keys.forget()
    return shown


@router.readable(
    "/v1/projects", scope=Scope.SERVICE_OPERATE, response_model=Projects,
    responses=documented("bad_parameter", "database_unavailable"),
)  # fmt: skip
def list_projects(service: Serving, caller: Caller) -> Any:
    """List the projects by name."""
    with service.read(caller) as session:
        return Projects.model_validate({"data": keys.projects(session)})


@router.post(
    "/v1/projects", scope=Scope.SERVICE_OPERATE, status_code=CREATED, response_model=Project,
    responses=documented(*_BODIES),
)  # fmt: skip
def create_project(service: Serving, caller: Caller, wanted: ProjectRequest) -> Any:
    """Make a project. Again is harmless."""
    with service.begin(caller) as session:
        keys.create_project(session, wanted.name, now=database_now(session))
        return Project.model_validate(keys.get_project(session, wanted.name))


def _rotate(service: AppState, caller: Principal, key_id: str, grace_s: float, response: Response) -> KeyWithSecret:
    with service.begin(caller) as session:
        old = keys.get(session, key_id)
        if beyond := sorted(set(old.scopes) - caller.scopes):
            raise Forbidden(f"this key lacks {', '.join(beyond)}, so it cannot replace that one")
        row, secret = keys.rotate(session, key_id, now=database_now(session), grace_s=grace_s)
    service.keys.forget()
    return _shown(row, secret, response)


def _shown(row: Any, secret: str, response: Response) -> KeyWithSecret:
    response.headers["Cache-Control"] = "no-store"
    return KeyWithSecret.model_validate({**Key.of(row).model_dump(), "secret": secret})
