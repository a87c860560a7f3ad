"""One stored file as an answer: whole or in part, with its digest, and with headers that keep it harmless."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from retort.artifacts import Store

from retort_api import etags, ranges
from retort_api.errors import NOT_MODIFIED, OK, PARTIAL_CONTENT, documented
from retort_api.policies import FILE_POLICY, REPORT_POLICY

REPORT = "report.html"
_BINARY = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?charset=[\w-]+)?", re.ASCII)

_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
_BYTES = {"content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}}}
_HEADERS: dict[str, Any] = {
    "ETag": {"description": '`"sha256-<hex>"`: changes with the bytes only.', **_TEXT},
    "Repr-Digest": {"description": "SHA-256 of the whole file, also beside a part of it (RFC 9530).", **_TEXT},
    "Accept-Ranges": {"description": "`bytes`", **_TEXT},
    "Content-Disposition": _TEXT,
}


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What the database knows of a file in the store."""

    name: str
    sha256: str
    size_bytes: int
    media_type: str
    key: str


def responses(*refusals: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of an address that sends a file."""
    return {
        OK: {"description": "The bytes.", "headers": _HEADERS, **_BYTES},
        PARTIAL_CONTENT: {"description": "The bytes asked for.", "headers": _HEADERS, **_BYTES},
        NOT_MODIFIED: {"description": "The file is what the ETag names.", "headers": _HEADERS},
        **documented(*refusals, "range_not_satisfiable", "bad_parameter", "artifact_bytes_missing",
                     "store_unavailable", "database_unavailable"),
    }  # fmt: skip


def send(
    request: Request,
    store: Store,
    file: StoredFile,
    *,
    range_: str | None,
    if_range: str | None,
    if_none_match: str | None,
) -> Response:
    """Answer with the bytes of *file*, or with those that the request's headers ask for."""
    etag = etags.strong(f"sha256-{file.sha256}")
    headers = _headers(file, etag)
    if etags.unchanged(if_none_match, etag):
        return Response(None, NOT_MODIFIED, headers)
    head = request.method == "HEAD"  # for which Range means nothing
    span = ranges.requested(range_, file.size_bytes) if not head and etags.same(if_range, etag) else None
    start, end = span or (0, file.size_bytes)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    media_type = headers.pop("Content-Type")
    content = iter(()) if head else _opened(store, file, start, end)
    return StreamingResponse(content, PARTIAL_CONTENT if span else OK, headers, media_type)


def _opened(store: Store, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
    """Read the first chunk before anything is promised, so that a missing file is a problem and not a broken line."""
    if start == end:
        return iter(())
    chunks = store.read(file.key, start, end)
    return chain([next(chunks)], chunks)


def _headers(file: StoredFile, etag: str) -> dict[str, str]:
    report = file.name == REPORT
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    return {
        "Accept-Ranges": "bytes",
        "Content-Disposition": _disposition(file.name, inline=report),
        "Content-Security-Policy": REPORT_POLICY if report else FILE_POLICY,
        "Content-Type": file.media_type if _MEDIA_TYPE.fullmatch(file.media_type) else _BINARY,
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
    }


def _disposition(name: str, *, inline: bool) -> str:
    """Suggest the last part of *name* as a file name (RFC 6266)."""
    plain = name.rpartition("/")[2]
    ascii_only = re.sub(r'[^\x20-\x7e]|["\\]', "_", plain)
    extended = "" if ascii_only == plain else f"; filename*=UTF-8''{quote(plain, safe='')}"
    return f'{"inline" if inline else "attachment"}; filename="{ascii_only}"{extended}'
