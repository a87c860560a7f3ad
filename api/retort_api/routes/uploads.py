"""Routes of uploads: begin, send parts, see which are there, complete."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response
from retort.access import Principal, Scope
from retort.db import datasets, uploads
from retort.db.models import UPLOAD_PREFIX, UploadPartRow, UploadRow
from retort.db.session import database_now
from retort.db.uploads import NewPart, UploadConflict, UploadNotFound
from retort.errors import UserError
from retort.states import UploadState
from retort.storage import signs
from starlette.concurrency import run_in_threadpool

from retort_api.deps import AppState, Caller, Router, Serving
from retort_api.errors import CREATED, NO_CONTENT, OK, BadParameter, documented
from retort_api.http import JSON, Cursor, Limit, next_cursor, parse_cursor
from retort_api.receiving import BINARY, Received, Spool, read_model, receive, sha256_in, too_large
from retort_api.schemas.uploads import (
    LARGEST_PART,
    MOST_PARTS,
    SMALLEST_PART,
    Part,
    Upload,
    UploadAnnouncement,
    UploadPage,
    UploadPartLink,
    UploadPartLinks,
    UploadSummary,
    upload_path,
)

router = Router("uploads")

_ANNOUNCEMENT_LIMIT = 4 << 20
"""Largest announcement in bytes: twenty thousand parts take half of it."""
_USUAL_PART = 8 << 20
_LINKED = 1000
_LINK_S = 3600.0
UPLOAD_ID = rf"^{UPLOAD_PREFIX}[0-9a-f]{{32}}$"
_ID = re.compile(UPLOAD_ID)
_BODY = {"required": True, "content": {JSON: {"schema": {"$ref": "#/components/schemas/UploadAnnouncement"}}}}
_BYTES = {"required": True, "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}
_LOCATION = {"Location": {"description": "Address of the upload.", "schema": {"type": "string"}}}
_DIGEST = {
    "name": "Repr-Digest", "in": "header", "required": True, "schema": {"type": "string"},
    "description": "SHA-256 of the part (RFC 9530): `sha-256=:BASE64:`. Content-Digest will do as well.",
}  # fmt: skip
_READING = ("upload_not_found", "bad_parameter", "database_unavailable")
_WRITING = (*_READING, "upload_conflict", "storage_full", "store_unavailable")


async def _upload_id(
    upload_id: Annotated[str, Path(description="Such as `upl_01985a3e7b0c7d4e8f1a2b3c4d5e6f70`.")],
) -> str:
    if not _ID.fullmatch(upload_id):
        raise UploadNotFound(f"there is no upload {upload_id}")
    return upload_id


UploadId = Annotated[str, Depends(_upload_id)]


@router.post(
    "/v1/uploads",
    scope=Scope.DATA_WRITE,
    status_code=CREATED,
    response_model=Upload,
    openapi_extra={"requestBody": _BODY},
    responses={
        CREATED: {"description": "The upload has begun.", "headers": _LOCATION},
        OK: {"model": Upload, "description": "The file was sent before, as a whole or in part.", "headers": _LOCATION},
        **documented(
            "unreadable_body",
            "body_too_large",
            "unsupported_media_type",
            "bad_parameter",
            "quota_exceeded",
            "storage_full",
            "store_unavailable",
            "database_unavailable",
        ),
    },
)
async def begin_upload(*, service: Serving, caller: Caller, request: Request, response: Response) -> Any:
    """Begin to send a file in parts; the answer says which are missing.

    What the project has sent before, whole files and parts, is not sent again. Nothing is told of other projects.
    """
    wanted = await read_model(request, UploadAnnouncement, _ANNOUNCEMENT_LIMIT)
    upload, created = await run_in_threadpool(_begin, service, caller, wanted)
    response.status_code = CREATED if created else OK
    response.headers["Location"] = upload_path(upload.id)
    return upload


def check_size(service: AppState, size_bytes: int) -> None:
    """Refuse a file that is too large, or for which there is no room.

    Raises:
        UserError: it is larger than the operator allows.
        TransientError: there is no room.

    """
    if size_bytes > service.settings.max_upload_bytes:
        raise too_large(service.settings.max_upload_bytes)
    service.disk.check(size_bytes)


def _begin(service: AppState, caller: Principal, wanted: UploadAnnouncement) -> tuple[Upload, bool]:
    announced = [NewPart(part.sha256, part.size_bytes) for part in wanted.parts]
    if announced and sum(part.size_bytes for part in announced) != wanted.size_bytes:
        raise BadParameter("body.size_bytes", "is not the sum of the parts' sizes", hint="announce every part")
    part_bytes = 0 if announced else wanted.part_bytes or part_size(wanted.size_bytes)
    num_parts = len(announced) or -(-wanted.size_bytes // part_bytes)
    if num_parts > MOST_PARTS:
        hint = f"at most {MOST_PARTS}: send parts of {part_size(wanted.size_bytes)} bytes"
        raise BadParameter("body.part_bytes", f"makes {num_parts} parts", hint=hint)
    check_size(service, wanted.size_bytes)
    new = uploads.NewUpload(
        project=caller.project, owner=caller.owner, size_bytes=wanted.size_bytes, name=wanted.name,
        sha256=wanted.sha256, part_bytes=part_bytes, num_parts=num_parts,
    )  # fmt: skip
    with service.begin(caller) as session:
        now = database_now(session)
        row = uploads.earlier(session, new, announced)
        created = row is None
        if row is None:
            known = uploads.known_parts(session, caller.project, [part.sha256 for part in announced])
            parts = [_with_known(part, known.get(part.sha256)) for part in announced]
            row = uploads.create(session, new, parts, now=now)
        else:
            uploads.touch(session, [row.id], now=now)
        return _shown(service, row, uploads.parts(session, row.id)), created


def part_size(size_bytes: int) -> int:
    """Return the size of parts that suits a file."""
    return min(max(_USUAL_PART, -(-size_bytes // MOST_PARTS)), LARGEST_PART)


def _with_known(part: NewPart, known: UploadPartRow | None) -> NewPart:
    if known is None or known.size_bytes != part.size_bytes:
        return part
    return NewPart(part.sha256, part.size_bytes, known.key)


def _shown(service: AppState, row: UploadRow, parts: Sequence[UploadPartRow]) -> Upload:
    return Upload.seen(row, parts, service.settings.keep_uploads_s, signs=signs(service.settings.store_url))


@router.readable(
    "/v1/uploads",
    scope=Scope.DATA_READ,
    response_model=UploadPage,
    responses=documented("bad_parameter", "database_unavailable"),
)
def list_uploads(
    *, service: Serving, caller: Caller, response: Response, limit: Limit = 20, cursor: Cursor = None
) -> UploadPage:
    """List uploads, newest first."""
    with service.read(caller) as session:
        found = uploads.page(session, caller.reach, after=parse_cursor(cursor, UPLOAD_PREFIX), limit=limit + 1)
    shown = tuple(
        UploadSummary.of(row, service.settings.keep_uploads_s, signs=signs(service.settings.store_url))
        for row in found[:limit]
    )
    cursor = next_cursor(response, found, limit, prefix=UPLOAD_PREFIX, path="/v1/uploads")
    return UploadPage(data=shown, next_cursor=cursor, has_more=cursor is not None)


@router.readable(
    "/v1/uploads/{upload_id}", scope=Scope.DATA_READ, response_model=Upload, responses=documented(*_READING)
)
def get_upload(service: Serving, caller: Caller, upload_id: UploadId) -> Upload:
    """Say which parts of an upload are there, and which are missing."""
    with service.read(caller) as session:
        row = uploads.get(session, upload_id, caller.reach)
        return _shown(service, row, uploads.parts(session, row.id))


@router.put(
    "/v1/uploads/{upload_id}/parts/{number}",
    scope=Scope.DATA_WRITE,
    status_code=CREATED,
    response_model=Part,
    openapi_extra={"requestBody": _BYTES, "parameters": [_DIGEST]},
    responses={
        CREATED: {"description": "The part is there."},
        OK: {"model": Part, "description": "It was there already."},
        **documented(*_WRITING, "body_too_large", "bad_digest"),
    },
)
async def put_part(
    *,
    service: Serving,
    caller: Caller,
    request: Request,
    response: Response,
    upload_id: UploadId,
    number: Annotated[int, Path(ge=1, le=MOST_PARTS, description="From 1.")],
) -> Any:
    """Send one part, in any order, several at a time; it is kept once its digest is right.

    Sending it again is harmless.
    """
    announced = sha256_in(request.headers)
    if announced is None:
        hint = "Repr-Digest: sha-256=:BASE64:, the SHA-256 of this part"
        raise BadParameter("header.repr-digest", "is missing", hint=hint)
    expected, there = await run_in_threadpool(_expected, service, caller, upload_id, number)
    if there is not None and there.sha256 == announced:
        response.status_code = OK
        return there
    with await receive(request, service.spool, expected) as received:
        if received.size_bytes != expected:
            raise BadParameter("body", f"has {received.size_bytes} bytes", hint=f"part {number} has {expected}")
        if received.sha256 != announced:
            raise _damaged(f"part {number}", received.sha256)
        created = await run_in_threadpool(_keep, service, caller, upload_id, number, received)
    response.status_code = CREATED if created else OK
    return Part(number=number, sha256=announced, size_bytes=expected)


def _damaged(what: str, found: str) -> UserError:
    hint = "it was damaged on its way, or is another one: send it again"
    return UserError(f"{what} has the SHA-256 {found}, not the announced one", code="bad_digest", hint=hint)


def _expected(service: AppState, caller: Principal, upload_id: str, number: int) -> tuple[int, Part | None]:
    """Return the size that a part must have, and the part where it is there."""
    service.disk.check()
    with service.read(caller) as session:
        row = uploads.get(session, upload_id, caller.reach)
        part = uploads.part(session, upload_id, number)
    if row.num_parts == 0:
        raise UploadConflict("this upload takes its bytes one after the other", hint="PATCH /v1/tus/ID sends more")
    if number > row.num_parts:
        raise BadParameter("path.number", f"the upload has {row.num_parts} parts")
    if part is not None:
        there = Part(number=number, sha256=part.sha256, size_bytes=part.size_bytes)
        return part.size_bytes, there if part.key else None
    if row.state is not UploadState.OPEN:
        raise UploadConflict(f"the upload {upload_id} is complete", hint="begin another one")
    return min(row.part_bytes, row.size_bytes - (number - 1) * row.part_bytes), None


def _keep(service: AppState, caller: Principal, upload_id: str, number: int, received: Received) -> bool:
    stored = service.store.put_opened(received.file, received.sha256, received.size_bytes)
    with service.begin(caller) as session:
        part = NewPart(stored.sha256, stored.size_bytes, stored.key)
        return uploads.add_part(session, upload_id, number, part, now=database_now(session))


@router.post(
    "/v1/uploads/{upload_id}/links",
    scope=Scope.DATA_WRITE,
    response_model=UploadPartLinks,
    responses=documented(*_READING, "upload_conflict", "store_unavailable"),
)
def link_parts(
    service: Serving,
    caller: Caller,
    upload_id: UploadId,
    first: Annotated[int, Query(ge=1, le=MOST_PARTS, description="Number of the first part to link.")] = 1,
) -> UploadPartLinks:
    """Return signed addresses of the next missing parts in an object store, to which a client may PUT them itself.

    `complete` looks for what was sent there. A store that is a folder has no such addresses.
    """
    with service.begin(caller) as session:
        row = uploads.get(session, upload_id, caller.reach)
        missing = _shown(service, row, uploads.parts(session, row.id)).missing
        uploads.touch(session, [row.id], now=database_now(session))
    links = []
    for number in [number for number in missing if number >= first][:_LINKED]:
        url = service.store.link(row.id, number, valid_s=_LINK_S)
        if url is None:
            hint = "PUT /v1/uploads/ID/parts/N takes the parts"
            raise UploadConflict("the store is a folder of the service's, and signs no addresses", hint=hint)
        links.append(UploadPartLink(number=number, url=url))
    return UploadPartLinks(data=tuple(links), valid_s=_LINK_S)


@router.post(
    "/v1/uploads/{upload_id}/complete",
    scope=Scope.DATA_WRITE,
    response_model=Upload,
    responses=documented(*_WRITING, "bad_digest"),
)
def complete_upload(service: Serving, caller: Caller, upload_id: UploadId) -> Upload:
    """Say that all parts are sent: the digest of the whole is checked, and datasets that wait for it go on.

    Asking again is harmless.
    """
    with service.read(caller) as session:
        row = uploads.get(session, upload_id, caller.reach)
    return finish(service, caller, row)


def finish(service: AppState, caller: Principal, row: UploadRow) -> Upload:
    """Check the digest of an upload whose bytes are all there, and record it as complete.

    Raises:
        UploadConflict: parts are missing.
        UserError: the digest is not the announced one.

    """
    with service.read(caller) as session:
        parts = uploads.parts(session, row.id)
    if row.state is UploadState.COMPLETE:
        return _shown(service, row, parts)
    if row.source_url is not None:
        told = "could not be fetched" if row.state is UploadState.FAILED else "is being fetched"
        raise UploadConflict(f"the upload {told} from its URL", hint="GET says how far it is, or why")
    upload = _shown(service, row, parts)
    if _adopted(service, caller, row, parts, upload.missing):
        with service.read(caller) as session:
            parts = uploads.parts(session, row.id)
        upload = _shown(service, row, parts)
    if upload.missing or sum(part.size_bytes for part in upload.parts) != row.size_bytes:
        named = ", ".join(map(str, upload.missing[:_NAMED]))
        raise UploadConflict(f"parts are missing: {named or 'the last'}", hint="GET says which; send them")
    sha256 = _whole_digest(service, parts)
    if row.sha256 not in {None, sha256}:
        raise _damaged("the file", sha256)
    with service.begin(caller) as session:
        uploads.complete(session, row.id, sha256, now=database_now(session))
        datasets.begin_checking(session, row, sha256)
    with service.read(caller) as session:
        return _shown(service, uploads.get(session, row.id, caller.reach), parts)


def _adopted(
    service: AppState, caller: Principal, row: UploadRow, parts: Sequence[UploadPartRow], missing: Sequence[int]
) -> int:
    """Take over the missing parts that were sent to the store directly; return how many."""
    announced = {part.number: part for part in parts}
    taken = 0
    for number in missing:
        part = announced.get(number)
        size_bytes = min(row.part_bytes, row.size_bytes - (number - 1) * row.part_bytes)
        stored = service.store.adopt(row.id, number, size_bytes=size_bytes if part is None else part.size_bytes)
        if stored is None:
            continue
        if part is not None and part.sha256 != stored.sha256:
            raise _damaged(f"part {number}", stored.sha256)
        with service.begin(caller) as session:
            new = NewPart(stored.sha256, stored.size_bytes, stored.key)
            uploads.add_part(session, row.id, number, new, now=database_now(session))
        taken += 1
    return taken


_NAMED = 10


def whole(service: AppState, caller: Principal, upload_id: str, limit: int) -> Received:
    """Return the bytes of a complete upload in one file.

    Raises:
        UploadConflict: it is not complete.
        UserError: it has more than *limit* bytes.

    """
    with service.read(caller) as session:
        row = uploads.get(session, upload_id, caller.reach)
        parts = uploads.parts(session, row.id)
    if row.state is not UploadState.COMPLETE:
        raise UploadConflict(f"the upload {upload_id} is not complete", hint=f"POST {upload_path(row.id)}/complete")
    if row.size_bytes > limit:
        raise too_large(limit)
    spool = Spool(service.spool)
    try:
        for part in parts:
            assert part.key is not None
            for piece in service.store.read(part.key):
                spool.take(piece)
        return spool.taken()
    except BaseException:
        spool.close()
        raise


def _whole_digest(service: AppState, parts: Sequence[UploadPartRow]) -> str:
    if len(parts) == 1:
        return parts[0].sha256
    digest = hashlib.sha256()
    for part in parts:
        assert part.key is not None
        for piece in service.store.read(part.key):
            digest.update(piece)
    return digest.hexdigest()


@router.delete(
    "/v1/uploads/{upload_id}",
    scope=Scope.DATA_WRITE,
    status_code=NO_CONTENT,
    responses=documented(*_READING, "upload_conflict"),
)
def delete_upload(service: Serving, caller: Caller, upload_id: UploadId) -> None:
    """Drop an upload; a dataset that is made of it, and ready, stays."""
    drop(service, caller, upload_id)


def drop(service: AppState, caller: Principal, upload_id: str) -> None:
    """Forget an upload.

    Raises:
        UploadConflict: a worker still has to read it.

    """
    with service.begin(caller) as session:
        row = uploads.get(session, upload_id, caller.reach)
        if datasets.needs(session, row.id):
            raise UploadConflict("a dataset is being made of it", hint="wait until it is ready, or delete the dataset")
        now = database_now(session)
        datasets.forget_upload(session, row.id, now=now)
        uploads.remove(session, row.id, now=now)


assert SMALLEST_PART * MOST_PARTS > _USUAL_PART, "small parts are for tests and slow lines"
