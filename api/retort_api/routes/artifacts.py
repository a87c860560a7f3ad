"""Artifacts: what a job has published, and the bytes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path, Query, Request, Response
from retort.access import Scope
from retort.db import artifacts, jobs
from retort.db.artifacts import ArtifactNotFound

from retort_api import file_response
from retort_api.deps import Caller, JobId, Router, Serving
from retort_api.errors import documented
from retort_api.file_response import StoredFile
from retort_api.http import Deleted
from retort_api.schemas.jobs import Artifact, Artifacts

router = Router("artifacts")

_RESPONSES = file_response.responses("job_not_found", "artifact_not_found")


@router.readable(
    "/v1/jobs/{job_id}/artifacts",
    scope=Scope.JOBS_READ,
    response_model=Artifacts,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
def list_artifacts(service: Serving, caller: Caller, job_id: JobId, deleted: Deleted = False) -> Artifacts:
    """List what a job has published so far: checkpoints appear while it runs."""
    with service.read(caller) as session:
        jobs.get(session, job_id)
        found = [row for row in artifacts.of_job(session, job_id) if (row.deleted_at is not None) is deleted]
        return Artifacts(data=tuple(Artifact.of(row) for row in found))


@router.head(
    "/v1/jobs/{job_id}/artifacts/{name:path}",
    scope=Scope.JOBS_READ,
    responses=_RESPONSES,
    operation_id="describe_artifact",
    summary="Describe Artifact",
)
@router.get(
    "/v1/jobs/{job_id}/artifacts/{name:path}",
    scope=Scope.JOBS_READ,
    responses=_RESPONSES,
    operation_id="download_artifact",
)
def download_artifact(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    name: Annotated[str, Path(description="Such as `student.pt`; may contain slashes.")],
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes.")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
    self_contained: Annotated[
        bool, Query(description="Of `report.html`: with the charts' program inside, for a disk or a mail.")
    ] = False,
) -> Response:
    """Download a file, or the rest of it: send `Range` and, with the ETag, `If-Range`."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        if not name.isprintable():
            raise ArtifactNotFound(f"job {job_id} has no artifact named {name!r}")
        row = artifacts.named(session, job_id, name)
        if job.deleted_at is not None or row.deleted_at is not None:
            what = "the job" if row.deleted_at is None else "it"
            raise ArtifactNotFound(f"artifact {name!r} of {job_id} is deleted", hint=f"restore {what} first")
    file = StoredFile(row.name, row.sha256, row.size_bytes, row.media_type, row.key)
    if self_contained and name == file_response.REPORT:
        shown = file_response.for_browser(request)
        return file_response.send_self_contained(service.store, file, if_none_match=if_none_match, by_browser=shown)
    return file_response.send(
        request, service.store, file, range_=range_, if_range=if_range, if_none_match=if_none_match
    )
