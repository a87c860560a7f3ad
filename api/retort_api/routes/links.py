"""Signed addresses at which one artifact can be downloaded without a key."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Header, Path, Request, Response
from retort.access import PUBLIC, Scope
from retort.db import Session, artifacts, jobs
from retort.db.artifacts import ArtifactNotFound
from retort.db.models import ArtifactRow

from retort_api import file_response
from retort_api.deps import Caller, Router, Serving
from retort_api.errors import documented
from retort_api.file_response import StoredFile
from retort_api.links import Link, LinkInvalid
from retort_api.schemas.links import DownloadUrl, NewDownload

router = Router("artifacts")

_ID = re.compile(r"art_[0-9a-f]{32}")
_RESPONSES = file_response.responses("link_invalid", "link_expired")


@router.post(
    "/v1/artifacts/{artifact_id}/download-url",
    scope=Scope.JOBS_READ,
    response_model=DownloadUrl,
    responses=documented(
        "unreadable_body", "artifact_not_found", "bad_parameter", "database_unavailable", "store_unavailable"
    ),
)  # fmt: skip
def sign_download(
    service: Serving,
    caller: Caller,
    artifact_id: Annotated[str, Path(description="Such as `art_01985a3e7b0c7d4e8f1a2b3c4d5e6f70`.")],
    wanted: NewDownload,
) -> DownloadUrl:
    """Make an address at which whoever has it can download this file, and nothing else, until it expires.

    Where the store is an object store, the address is the store's. A file that is replaced by another of its name
    cannot be read any more at this service's addresses.
    """
    if not _ID.fullmatch(artifact_id):
        raise ArtifactNotFound(f"there is no artifact {artifact_id}")
    with service.read(caller) as session:
        row = _visible(session, artifact_id)
    expires_at = int(time.time()) + wanted.expires_in_s
    url = service.store.presigned(row.key, wanted.expires_in_s)
    if url is None:
        token = service.links.sign(Link(row.id, row.sha256, expires_at))
        url = f"{service.settings.url.rstrip('/')}/v1/downloads/{token}"
    when = datetime.fromtimestamp(expires_at, UTC)
    return DownloadUrl(url=url, expires_at=when, sha256=row.sha256, size_bytes=row.size_bytes)


def _visible(session: Session, artifact_id: str) -> ArtifactRow:
    """Return the artifact, if its job is one that the session may see."""
    row = artifacts.get(session, artifact_id)
    try:
        job = jobs.get(session, row.job_id)
    except jobs.JobNotFound as error:
        raise ArtifactNotFound(f"there is no artifact {artifact_id}") from error
    if job.deleted_at is not None or row.deleted_at is not None:
        raise ArtifactNotFound(f"the artifact {artifact_id} is deleted", hint="restore it, or its job, first")
    return row


@router.head(
    "/v1/downloads/{token}",
    scope=PUBLIC,
    responses=_RESPONSES,
    operation_id="describe_download",
    summary="Describe Download",
)
@router.get("/v1/downloads/{token}", scope=PUBLIC, responses=_RESPONSES, operation_id="open_download")
def open_download(
    *,
    request: Request,
    service: Serving,
    token: Annotated[str, Path(description="From a signed address.", max_length=1024)],
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes.")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Download the file of a signed address, which needs no key, or the rest of it."""
    link = service.links.read(token, now=time.time())
    with service.database.read() as session:
        try:
            row = _visible(session, link.artifact_id)
        except ArtifactNotFound as error:
            raise LinkInvalid("the file of this download address is gone", hint="ask for a new one") from error
    if row.sha256 != link.sha256:
        raise LinkInvalid("the file of this download address was replaced", hint="ask for a new one")
    file = StoredFile(row.name, row.sha256, row.size_bytes, row.media_type, row.key)
    return file_response.send(
        request, service.store, file, range_=range_, if_range=if_range, if_none_match=if_none_match
    )
