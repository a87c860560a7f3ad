"""Route of uploads that a worker fetches by URL."""

from __future__ import annotations

from posixpath import basename
from typing import Any
from urllib.parse import unquote, urlsplit

from fastapi import Request, Response
from retort.access import Principal, Scope
from retort.addresses import check_url
from retort.db import fetches, uploads
from retort.db.session import database_now
from retort.errors import UserError
from retort.storage import signs
from starlette.concurrency import run_in_threadpool

from retort_api.deps import AppState, Caller, Router, Serving
from retort_api.errors import ACCEPTED, OK, documented
from retort_api.http import BODY_LIMIT, JSON
from retort_api.receiving import read_model
from retort_api.schemas.uploads import Upload, UploadFetch, upload_path

router = Router("uploads")

_BODY = {"required": True, "content": {JSON: {"schema": {"$ref": "#/components/schemas/UploadFetch"}}}}
_LOCATION = {"Location": {"description": "Address of the upload.", "schema": {"type": "string"}}}


class FetchingOff(UserError):
    """The operator lets nothing be fetched by URL."""

    code = "fetching_off"


@router.post(
    "/v1/uploads/fetch",
    scope=Scope.DATA_WRITE,
    status_code=ACCEPTED,
    response_model=Upload,
    openapi_extra={"requestBody": _BODY},
    responses={
        ACCEPTED: {"description": "A worker will fetch it.", "headers": _LOCATION},
        OK: {"model": Upload, "description": "It is there, or on its way, already.", "headers": _LOCATION},
        **documented(
            "unreadable_body", "body_too_large", "unsupported_media_type", "bad_parameter", "bad_address",
            "fetching_off", "quota_exceeded", "storage_full", "database_unavailable",
        ),
    },
)  # fmt: skip
async def fetch_upload(*, service: Serving, caller: Caller, request: Request, response: Response) -> Any:
    """Have a worker fetch a file by https, from a host that the operator names in `RETORT_FETCH_FROM`.

    Follow `links.self` until its state is `complete` or `failed`; asking twice for the same file fetches it once.
    """
    wanted = await read_model(request, UploadFetch, BODY_LIMIT)
    upload, created = await run_in_threadpool(fetching, service, caller, wanted)
    response.status_code = ACCEPTED if created else OK
    response.headers["Location"] = upload_path(upload.id)
    return upload


def fetching(service: AppState, caller: Principal, wanted: UploadFetch) -> tuple[Upload, bool]:
    """Begin to fetch a file; return the upload, and whether it is a new one.

    Raises:
        FetchingOff: nothing is fetched by URL here.
        AddressError: the URL is malformed, or on another host than the operator names.

    """
    if not service.settings.fetch_from:
        hint = "send the file itself, or ask the operator to name its host in RETORT_FETCH_FROM"
        raise FetchingOff("this service fetches nothing by URL", hint=hint)
    check_url(wanted.url, service.settings.fetch_from)
    service.disk.check()
    new = uploads.NewUpload(
        project=caller.project, owner=caller.owner, size_bytes=0, name=wanted.name or _name(wanted.url),
        sha256=wanted.sha256,
    )  # fmt: skip
    with service.begin(caller) as session:
        row, created = fetches.begin(session, new, wanted.url, now=database_now(session))
        parts = uploads.parts(session, row.id)
        settings = service.settings
        return Upload.seen(row, parts, settings.keep_uploads_s, signs=signs(settings.store_url)), created


def _name(url: str) -> str | None:
    last = unquote(basename(urlsplit(url).path))
    plain = "".join(character if character.isprintable() else "_" for character in last)
    return plain.replace("/", "_").replace("\\", "_")[:255] or None
