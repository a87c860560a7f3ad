"""Serve one stored file: ranges, digest, and headers that keep it harmless."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from retort import chart_program
from retort.errors import UserError
from retort.storage import Store

from retort_api import http
from retort_api.errors import NOT_MODIFIED, OK, PARTIAL_CONTENT, documented

_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE)


class Span(NamedTuple):
    """Bytes from *start* up to, not including, *end*."""

    start: int
    end: int


class RangeNotSatisfiable(UserError):
    """The range begins behind the last byte."""

    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"the artifact has {size} bytes")
        self.headers = {"Content-Range": f"bytes */{size}"}


def requested(header: str | None, size: int) -> Span | None:
    """Return the byte range of a Range header; None means all bytes.

    Several ranges, and malformed ones, are ignored.

    Raises:
        RangeNotSatisfiable: none of the bytes exist.

    """
    found = _ONE_RANGE.fullmatch(header or "")
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    else:
        start, end = max(0, size - int(last)), size
    if start >= size:
        raise RangeNotSatisfiable(size)
    return Span(start, end)


# The script of a page that draws its charts, and their program, run by their digests, and no other script does: what
# somebody smuggles into a page is text. Sandboxed, it is a page of nowhere, which reaches neither service nor network.
# Styles are the page's own, by their digests: it may have been made by another version.
_PAGE_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; {scripts}; {styles}; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
FILE_POLICY = "sandbox; default-src 'none'"
# Swagger UI draws its icons from data: addresses; what is tried out goes to this service alone.
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

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


def report_policy(page: bytes) -> str:
    """Return the policy of a report, of which the first bytes suffice."""
    return _PAGE_POLICY.format(scripts=chart_program.policy("report"), styles=chart_program.style_policy(page))


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Metadata of a file in the store."""

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
    """Respond with *file*, or with the byte range the request names."""
    if _draws_no_more(request, store, file):
        return send_self_contained(store, file, if_none_match=if_none_match, by_browser=True)
    etag = http.strong(f"sha256-{file.sha256}")
    policy = FILE_POLICY
    if file.name == REPORT:
        policy = report_policy(b"".join(store.read(file.key, 0, chart_program.HEAD_BYTES)))
    headers = _headers(file, etag, policy)
    if http.unchanged(if_none_match, etag):
        return Response(None, NOT_MODIFIED, headers)
    head = request.method == "HEAD"  # for which Range means nothing
    span = requested(range_, file.size_bytes) if not head and http.same(if_range, etag) else None
    start, end = span or (0, file.size_bytes)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    media_type = headers.pop("Content-Type")
    content = iter(()) if head else _opened(store, file, start, end)
    return StreamingResponse(content, PARTIAL_CONTENT if span else OK, headers, media_type)


def send_self_contained(
    store: Store, file: StoredFile, *, if_none_match: str | None, by_browser: bool = False
) -> Response:  # fmt: skip
    """Respond with a page that has the charts' program inside.

    A browser's draws them as this version does.
    """
    page = chart_program.self_contained(b"".join(store.read(file.key)))
    page = chart_program.redrawn(page) if by_browser else page
    etag = http.strong(f"sha256-{hashlib.sha256(page).hexdigest()}")
    headers = {**_headers(file, etag, report_policy(page)), "Accept-Ranges": "none"}
    del headers["Repr-Digest"]  # it is that of the stored page
    if http.unchanged(if_none_match, etag):
        return Response(None, NOT_MODIFIED, headers)
    return Response(page, OK, headers, headers.pop("Content-Type"))


def _draws_no_more(request: Request, store: Store, file: StoredFile) -> bool:
    """Return True if a page of another version would show no charts."""
    if file.name != REPORT or not for_browser(request):
        return False
    page = b"".join(store.read(file.key))
    reference = chart_program.reference_in(page)
    return not chart_program.draws(page) or (
        reference is not None and reference.file_name != chart_program.file_name()
    )  # fmt: skip


def for_browser(request: Request) -> bool:
    """Return True if a browser asks for a page to show."""
    return request.headers.get("sec-fetch-dest") in {"document", "iframe"}


def _opened(store: Store, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
    """Read the first chunk before anything is promised, so that a missing file is a problem and not a broken line."""
    if start == end:
        return iter(())
    chunks = store.read(file.key, start, end)
    return chain([next(chunks)], chunks)


def _headers(file: StoredFile, etag: str, policy: str) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    return {
        "Accept-Ranges": "bytes",
        "Content-Disposition": _disposition(file.name, inline=file.name == REPORT),
        "Content-Security-Policy": policy,
        "Content-Type": file.media_type if _MEDIA_TYPE.fullmatch(file.media_type) else _BINARY,
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
    }


def _disposition(name: str, *, inline: bool) -> str:
    """Suggest the last part of *name* as a file name (RFC 6266)."""
    plain = name.rpartition("/")[2]
    ascii_only = re.sub(r'[^\x20-\x7e]|["\\]', "_", plain)
    extended = "" if ascii_only == plain else f"; filename*=UTF-8''{quote(plain.encode(errors='replace'), safe='')}"
    return f'{"inline" if inline else "attachment"}; filename="{ascii_only}"{extended}'
