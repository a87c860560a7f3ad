"""Artifacts: what a job has published, and the bytes."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Header, Path, Request, Response
from fastapi.responses import StreamingResponse
from retort.artifacts import Store
from retort.db import artifacts, jobs
from retort.db.artifacts import ArtifactNotFound
from retort.db.models import Artifact as ArtifactRow

from retort_api import etags, ranges
from retort_api.deps import JobId, Router, Serving
from retort_api.errors import NOT_MODIFIED, OK, PARTIAL_CONTENT, documented
from retort_api.policies import FILE_POLICY, REPORT_POLICY
from retort_api.schemas import Artifact, Artifacts

router = Router("artifacts")

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
_RESPONSES: dict[int | str, dict[str, Any]] = {
    OK: {"description": "The bytes.", "headers": _HEADERS, **_BYTES},
    PARTIAL_CONTENT: {"description": "The bytes asked for.", "headers": _HEADERS, **_BYTES},
    NOT_MODIFIED: {"description": "The file is what the ETag names.", "headers": _HEADERS},
    **documented(
        "job_not_found", "artifact_not_found", "range_not_satisfiable", "bad_parameter", "artifact_bytes_missing",
        "store_unavailable", "database_unavailable",
    ),
}  # fmt: skip


@router.readable(
    "/v1/jobs/{job_id}/artifacts",
    response_model=Artifacts,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
def list_artifacts(service: Serving, job_id: JobId) -> Artifacts:
    """List what a job has published so far: checkpoints appear while it runs."""
    with service.database.read() as session:
        jobs.get(session, job_id)
        return Artifacts(data=tuple(Artifact.of(row) for row in artifacts.of_job(session, job_id)))


@router.head("/v1/jobs/{job_id}/artifacts/{name:path}", responses=_RESPONSES, operation_id="describe_artifact")
@router.get("/v1/jobs/{job_id}/artifacts/{name:path}", responses=_RESPONSES, operation_id="download_artifact")
def download_artifact(
    *,
    request: Request,
    service: Serving,
    job_id: JobId,
    name: Annotated[str, Path(description="Such as `student.pt`; may contain slashes.")],
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes.")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Download a file, or the rest of it: send `Range` and, with the ETag, `If-Range`."""
    with service.database.read() as session:
        jobs.get(session, job_id)
        if not name.isprintable():
            raise ArtifactNotFound(f"job {job_id} has no artifact named {name!r}")
        row = artifacts.named(session, job_id, name)
    etag = etags.strong(f"sha256-{row.sha256}")
    headers = _headers(row, etag)
    if etags.unchanged(if_none_match, etag):
        return Response(None, NOT_MODIFIED, headers)
    head = request.method == "HEAD"  # for which Range means nothing
    span = ranges.requested(range_, row.size_bytes) if not head and etags.same(if_range, etag) else None
    start, end = span or (0, row.size_bytes)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.size_bytes}"
    media_type = headers.pop("Content-Type")
    content = iter(()) if head else _opened(service.store, row, start, end)
    return StreamingResponse(content, PARTIAL_CONTENT if span else OK, headers, media_type)


def _opened(store: Store, row: ArtifactRow, start: int, end: int) -> Iterator[bytes]:
    """Read the first chunk before anything is promised, so that a missing file is a problem and not a broken line."""
    if start == end:
        return iter(())
    chunks = store.read(row.key, start, end)
    return chain([next(chunks)], chunks)


def _headers(row: ArtifactRow, etag: str) -> dict[str, str]:
    report = row.name == REPORT
    digest = base64.b64encode(bytes.fromhex(row.sha256)).decode()
    return {
        "Accept-Ranges": "bytes",
        "Content-Disposition": _disposition(row.name, inline=report),
        "Content-Security-Policy": REPORT_POLICY if report else FILE_POLICY,
        "Content-Type": row.media_type if _MEDIA_TYPE.fullmatch(row.media_type) else _BINARY,
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
    }


def _disposition(name: str, *, inline: bool) -> str:
    """Suggest the last part of *name* as a file name (RFC 6266)."""
    plain = name.rpartition("/")[2]
    ascii_only = re.sub(r'[^\x20-\x7e]|["\\]', "_", plain)
    extended = "" if ascii_only == plain else f"; filename*=UTF-8''{quote(plain, safe='')}"
    return f'{"inline" if inline else "attachment"}; filename="{ascii_only}"{extended}'
