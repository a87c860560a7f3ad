"""Routes for clients of tus 1.0: creation, offsets, more bytes, termination, checksums."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import Annotated

from fastapi import Header, Request, Response
from retort.access import Principal, Scope
from retort.db import uploads
from retort.db.models import UploadRow
from retort.db.session import database_now
from retort.db.uploads import NewPart, NewUpload, UploadConflict
from retort.errors import UserError
from retort.states import UploadState
from starlette.concurrency import run_in_threadpool

from retort_api.deps import AppState, Caller, Router, Serving
from retort_api.errors import CREATED, NO_CONTENT, OK, BadParameter, documented
from retort_api.receiving import Received, receive_pieces
from retort_api.routes.uploads import UploadId, check_size, drop, finish
from retort_api.schemas.uploads import LARGEST_PART, MOST_PARTS

router = Router("uploads")

VERSION = "1.0.0"
_EXTENSIONS = "creation,termination,checksum,expiration"
_ALGORITHMS = ("sha256", "sha1")
_TYPE = "application/offset+octet-stream"
_PIECE_BYTES = 8 << 20
_METADATA = {"Tus-Resumable": VERSION, "Cache-Control": "no-store"}
_HOME = "/v1/tus"
_SHA256 = re.compile("[0-9a-f]{64}")
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f/\\\ud800-\udfff]{1,255}")
_BYTES = {"required": True, "content": {_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
_SPOKEN = ("upload_not_found", "tus_version", "bad_parameter", "store_unavailable", "database_unavailable")
Spoken = Annotated[str | None, Header(alias="Tus-Resumable", description=f"`{VERSION}`")]
Length = Annotated[int | None, Header(alias="Upload-Length", ge=1, description="Of the whole file, in bytes.")]
Offset = Annotated[int | None, Header(alias="Upload-Offset", ge=0, description="Where the bytes begin.")]


class WrongVersion(UserError):
    """The client speaks another version of tus, or none."""

    code = "tus_version"
    headers: Mapping[str, str] = {"Tus-Version": VERSION, **_METADATA}


def _check_version(spoken: str | None) -> None:
    if spoken != VERSION:
        raise WrongVersion("Tus-Resumable is missing or names another version", hint=f"Tus-Resumable: {VERSION}")


@router.options(_HOME, scope=Scope.DATA_WRITE, status_code=NO_CONTENT, operation_id="describe_tus")
def describe_tus(service: Serving) -> Response:
    """Say what the service knows of tus."""
    told = {
        "Tus-Version": VERSION, "Tus-Extension": _EXTENSIONS, "Tus-Checksum-Algorithm": ",".join(_ALGORITHMS),
        "Tus-Max-Size": str(service.settings.max_upload_bytes),
    }  # fmt: skip
    return Response(None, NO_CONTENT, {**_METADATA, **told})


@router.post(
    _HOME,
    scope=Scope.DATA_WRITE,
    status_code=CREATED,
    responses={
        CREATED: {"description": "`Location` is where the bytes go; its end is the upload's id."},
        **documented(*_SPOKEN, "body_too_large", "quota_exceeded", "storage_full"),
    },
)
def create_tus_upload(
    *,
    service: Serving,
    caller: Caller,
    spoken: Spoken = None,
    length: Length = None,
    metadata: Annotated[
        str | None, Header(alias="Upload-Metadata", max_length=4096, description="`filename`, and `sha256` in hex.")
    ] = None,
) -> Response:
    """Begin an upload by tus; `filename` and `sha256` of its metadata are understood."""
    _check_version(spoken)
    if length is None:
        raise BadParameter("header.upload-length", "is missing", hint="the size of the file in bytes")
    check_size(service, length)
    told = _read_metadata(metadata or "")
    new = NewUpload(
        project=caller.project, owner=caller.owner, size_bytes=length, name=told.get("filename"),
        sha256=told.get("sha256"),
    )  # fmt: skip
    with service.begin(caller) as session:
        row = uploads.create(session, new, now=database_now(session))
    return Response(None, CREATED, {**_headers(service, row), "Location": f"{_HOME}/{row.id}"})


def _read_metadata(text: str) -> dict[str, str]:
    """Read pairs of a key and a value in Base64; others than those that are used are passed over."""
    told = {}
    for pair in filter(None, text.split(",")):
        key, _, value = pair.strip().partition(" ")
        try:
            told[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise BadParameter("header.upload-metadata", f"{key!r} is not Base64 of text") from error
    if not _NAME.fullmatch(told.get("filename", "")):
        told.pop("filename", None)
    if "sha256" in told and not _SHA256.fullmatch(told["sha256"]):
        raise BadParameter("header.upload-metadata", "sha256 is not one", hint="64 hexadecimal digits in lower case")
    return told


def _headers(service: AppState, row: UploadRow) -> dict[str, str]:
    expires = formatdate(row.touched_at + service.settings.keep_uploads_s, usegmt=True)
    offsets = {"Upload-Offset": str(row.received_bytes), "Upload-Length": str(row.size_bytes)}
    return {**_METADATA, **offsets, "Upload-Expires": expires}


def _row(service: AppState, caller: Principal, upload_id: str) -> UploadRow:
    """Return an upload that takes its bytes one after the other."""
    with service.read(caller) as session:
        row = uploads.get(session, upload_id, caller.reach)
    if row.num_parts or row.source_url is not None:
        raise UploadConflict("this upload was begun in parts", hint="PUT /v1/uploads/ID/parts/N sends them")
    return row


@router.head(f"{_HOME}/{{upload_id}}", scope=Scope.DATA_WRITE, responses=documented(*_SPOKEN, "upload_conflict"))
def look_at_tus_upload(service: Serving, caller: Caller, upload_id: UploadId, spoken: Spoken = None) -> Response:
    """Say in `Upload-Offset` how many bytes are there."""
    _check_version(spoken)
    return Response(None, OK, _headers(service, _row(service, caller, upload_id)))


@router.patch(
    f"{_HOME}/{{upload_id}}",
    scope=Scope.DATA_WRITE,
    status_code=NO_CONTENT,
    openapi_extra={"requestBody": _BYTES},
    responses={
        NO_CONTENT: {"description": "`Upload-Offset` says how many bytes are there; after the last, it is complete."},
        **documented(
            *_SPOKEN, "upload_conflict", "body_too_large", "unsupported_media_type", "bad_digest", "bad_checksum",
            "storage_full",
        ),
    },
)  # fmt: skip
async def append_to_tus_upload(
    *,
    service: Serving,
    caller: Caller,
    request: Request,
    upload_id: UploadId,
    spoken: Spoken = None,
    offset: Offset = None,
    checksum: Annotated[
        str | None, Header(alias="Upload-Checksum", description="`sha256 BASE64` or `sha1 BASE64` of these bytes.")
    ] = None,
) -> Response:
    """Send more bytes; what came before a broken connection is kept, but for the part that was on its way.

    With a checksum the bytes are kept together or not at all, at most 64 MiB.
    """
    _check_version(spoken)
    if request.headers.get("content-type") != _TYPE:
        raise UserError("the body is no part of a file", code="unsupported_media_type", hint=f"Content-Type: {_TYPE}")
    row = await run_in_threadpool(_row, service, caller, upload_id)
    if offset != row.received_bytes:
        raise UploadConflict(f"{row.received_bytes} bytes are there, not {offset}", hint="HEAD says where to go on")
    expected = _expected_checksum(checksum)
    piece_bytes = _PIECE_BYTES if expected is None else LARGEST_PART
    left = row.size_bytes - row.received_bytes
    async for piece in receive_pieces(request, service.spool, piece_bytes, min(left, _most(expected, left))):
        with piece:
            if expected is not None:
                await run_in_threadpool(_compare, piece, *expected)
            row = await run_in_threadpool(append_piece, service, caller, row, piece)
    if row.received_bytes == row.size_bytes and row.state is UploadState.OPEN:
        await run_in_threadpool(finish, service, caller, row)
    return Response(None, NO_CONTENT, _headers(service, row))


def _most(expected: object, left: int) -> int:
    return left if expected is None else LARGEST_PART


def _expected_checksum(given: str | None) -> tuple[str, bytes] | None:
    if given is None:
        return None
    algorithm, _, value = given.partition(" ")
    try:
        digest = base64.b64decode(value, validate=True)
    except binascii.Error:
        digest = b""
    if algorithm not in _ALGORITHMS or len(digest) != hashlib.new(algorithm).digest_size:
        raise BadParameter("header.upload-checksum", "cannot be read", hint=f"one of {', '.join(_ALGORITHMS)}, Base64")
    return algorithm, digest


def _compare(piece: Received, algorithm: str, digest: bytes) -> None:
    piece.file.seek(0)
    found = hashlib.file_digest(piece.file, algorithm).digest()  # type: ignore[arg-type]
    if not (piece.whole and hmac.compare_digest(found, digest)):
        raise UserError("the bytes have another checksum", code="bad_checksum", hint="send them again")


def append_piece(service: AppState, caller: Principal, row: UploadRow, piece: Received) -> UploadRow:
    """Keep the next piece of an upload whose bytes come one after the other."""
    service.disk.check()
    stored = service.store.put_opened(piece.file, piece.sha256, piece.size_bytes)
    with service.begin(caller) as session:
        part = NewPart(stored.sha256, stored.size_bytes, stored.key)
        uploads.append(session, row, part, now=database_now(session), most_parts=MOST_PARTS)
    with service.read(caller) as session:
        return uploads.get(session, row.id, caller.reach)


@router.delete(
    f"{_HOME}/{{upload_id}}",
    scope=Scope.DATA_WRITE,
    status_code=NO_CONTENT,
    responses=documented(*_SPOKEN, "upload_conflict"),
)
def terminate_tus_upload(service: Serving, caller: Caller, upload_id: UploadId, spoken: Spoken = None) -> Response:
    """Drop an upload."""
    _check_version(spoken)
    drop(service, caller, upload_id)
    return Response(None, NO_CONTENT, _METADATA)
