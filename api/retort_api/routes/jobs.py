"""Jobs: submit, look, list, cancel."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Header, Query, Response
from retort.db import attempts, clock, jobs, transitions
from retort.db.models import JOB_PREFIX
from retort.spec import digest, parse_spec
from retort.states import JobState

from retort_api import etags
from retort_api.admission import admit
from retort_api.bodies import JSON, YAML, Body, read_body
from retort_api.deps import JobId, Router, Service, Serving
from retort_api.errors import ACCEPTED, NOT_MODIFIED, OK, documented
from retort_api.schemas import Job, JobPage, JobSummary, job_path

router = Router("jobs")

RETRY_AFTER_S = {JobState.QUEUED: 10, JobState.RUNNING: 2, JobState.CANCELLING: 2}
"""When looking again may show something new; a job that has ended does not change."""
_FIRST_LOOK_S = 2
_SPEC = {"schema": {"$ref": "#/components/schemas/JobSpec"}}
_HEADERS: dict[str, Any] = {
    "ETag": {"description": "The job's version.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which looking again is worth it; absent once the job has ended.",
        "schema": {"type": "integer"},
    },
}
_LOCATION = {"description": "Address of the job.", "schema": {"type": "string"}}
_REPLAYED = {"description": "`true` when the key was known: the job is the earlier one.", "schema": {"type": "string"}}


@router.post(
    "/v1/jobs",
    status_code=ACCEPTED,
    response_model=Job,
    openapi_extra={"requestBody": {"required": True, "content": {JSON: _SPEC, YAML: _SPEC}}},
    responses={
        ACCEPTED: {"headers": {**_HEADERS, "Location": _LOCATION, "Idempotency-Replayed": _REPLAYED}},
        **documented(
            "unreadable_body", "body_too_large", "unsupported_media_type", "bad_spec", "bad_parameter",
            "idempotency_key_reused", "database_unavailable",
        ),
    },
)  # fmt: skip
def submit_job(
    service: Serving,
    response: Response,
    body: Annotated[Body, Depends(read_body)],
    idempotency_key: Annotated[str | None, Header(pattern=r"^[!-~]{1,255}$")] = None,
) -> Job:
    """Submit a spec; the job is queued when this returns.

    With an `Idempotency-Key` it is safe to send the same spec again after a broken connection: the same key and spec
    (spelling, order and defaults left out do not matter) answer with the job of the first time.
    """
    spec = parse_spec(body.document())
    admit(spec, service.settings.data_dirs)
    with service.database.begin() as session:
        submitted = jobs.submit(
            session,
            spec,
            now=clock.now(session),
            retries=service.settings.max_retries,
            key=idempotency_key,
            body_sha256=digest(spec),
        )
    if submitted.created:
        service.bell.ring(submitted.job_id)
    else:
        response.headers["Idempotency-Replayed"] = "true"
    response.headers["Location"] = job_path(submitted.job_id)
    job = _look(service, submitted.job_id, response)
    response.headers["Retry-After"] = str(_FIRST_LOOK_S)
    return job


@router.readable(
    "/v1/jobs", response_model=JobPage, responses=documented("bad_parameter", "database_unavailable")
)  # fmt: skip
def list_jobs(
    service: Serving,
    response: Response,
    state: Annotated[list[JobState], Query(description="Only jobs in these states.")] = [],  # noqa: B006 - FastAPI copies
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", pattern="^[0-9a-f]{32}$")
    ] = None,
) -> JobPage:
    """List jobs, newest first."""
    after = None if cursor is None else JOB_PREFIX + cursor
    with service.database.read() as session:
        found = jobs.page(session, states=state, after=after, limit=limit + 1)
        shown = tuple(JobSummary.of(job) for job in found[:limit])
    following = shown[-1].id.removeprefix(JOB_PREFIX) if len(found) > limit else None
    if following:
        query = urlencode([*(("state", s.value) for s in state), ("limit", limit), ("cursor", following)])
        response.headers["Link"] = f'</v1/jobs?{query}>; rel="next"'
    return JobPage(data=shown, next_cursor=following, has_more=following is not None)


@router.readable(
    "/v1/jobs/{job_id}",
    response_model=Job,
    responses={
        OK: {"headers": _HEADERS},
        NOT_MODIFIED: {"description": "The job is still what the ETag names.", "headers": _HEADERS},
        **documented("job_not_found", "bad_parameter", "database_unavailable"),
    },
)
def get_job(
    service: Serving, job_id: JobId, response: Response, if_none_match: Annotated[str | None, Header()] = None
) -> Any:
    """Show where a job stands."""
    job = _look(service, job_id, response)
    if etags.unchanged(if_none_match, response.headers["ETag"]):
        return Response(None, NOT_MODIFIED, response.headers)
    return job


@router.post(
    "/v1/jobs/{job_id}/cancel",
    status_code=ACCEPTED,
    response_model=Job,
    responses={
        OK: {"model": Job, "description": "The job is cancelled.", "headers": _HEADERS},
        ACCEPTED: {"description": "The run has been asked to stop.", "headers": _HEADERS},
        **documented("job_not_found", "job_already_finished", "bad_parameter", "database_unavailable"),
    },
)
def cancel_job(service: Serving, job_id: JobId, response: Response) -> Job:
    """Cancel a job. Asking again is harmless; what the run has published stays."""
    with service.database.begin() as session:
        state = jobs.cancel(session, job_id, now=clock.now(session), actor="client")
    response.status_code = OK if state is JobState.CANCELLED else ACCEPTED
    return _look(service, job_id, response)


def _look(service: Service, job_id: str, response: Response) -> Job:
    """Read a job, and say in the headers which version it is and when to look again."""
    with service.database.read() as session:
        job = jobs.get(session, job_id)
        shown = Job.whole(job, attempts.of_job(session, job_id), transitions.of_job(session, job_id))
    response.headers["ETag"] = etags.strong(job.version)
    if job.state in RETRY_AFTER_S:
        response.headers["Retry-After"] = str(RETRY_AFTER_S[job.state])
    return shown
