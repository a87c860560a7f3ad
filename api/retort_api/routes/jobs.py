"""Jobs: submit, look, list."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Query, Response
from retort.db import jobs
from retort.db.models import JOB_PREFIX
from retort.spec import AnySpec
from retort.states import JobState
from starlette.concurrency import run_in_threadpool

from retort_api.deps import IDEMPOTENCY_KEY, OWNER, JobId, Router, Service, Serving
from retort_api.errors import ACCEPTED, NOT_MODIFIED, OK, documented
from retort_api.http import JSON, YAML, Body, Cursor, Limit, after, following, read_body
from retort_api.job_responses import HEADERS, SUBMITTED_HEADERS, answer, submit
from retort_api.schemas.jobs import Job, JobPage, JobSummary
from retort_api.spec_validation import admit, read

router = Router("jobs")

_SPEC = {"schema": {"anyOf": [{"$ref": f"#/components/schemas/{kind}"} for kind in ("JobSpec", "AdviceSpec")]}}


@router.post(
    "/v1/jobs",
    status_code=ACCEPTED,
    response_model=Job,
    openapi_extra={"requestBody": {"required": True, "content": {JSON: _SPEC, YAML: _SPEC}}},
    responses={
        ACCEPTED: {"headers": SUBMITTED_HEADERS},
        **documented(
            "unreadable_body", "body_too_large", "unsupported_media_type", "bad_spec", "bad_parameter",
            "idempotency_key_reused", "database_unavailable",
        ),
    },
)  # fmt: skip
async def submit_job(
    *,
    service: Serving,
    response: Response,
    body: Annotated[Body, Depends(read_body)],
    owner: Annotated[str, Query(pattern=OWNER, description="Owners share the workers fairly.")] = jobs.DEFAULT_OWNER,
    priority: Annotated[int, Query(ge=-100, le=100, description="Higher ones are claimed first.")] = 0,
    idempotency_key: Annotated[str | None, Header(pattern=IDEMPOTENCY_KEY)] = None,
) -> Any:
    """Submit a spec; the job is queued when this returns.

    With an `Idempotency-Key` it is safe to send the same spec again after a broken connection: the same key and spec
    (spelling, order and defaults left out do not matter) answer with the job of the first time.
    """
    spec = await run_in_threadpool(_admitted, body, service)
    submission = jobs.Submission(
        spec=spec, retries=service.settings.max_retries, owner=owner, priority=priority, key=idempotency_key
    )
    return await submit(service, submission, response)


def _admitted(body: Body, service: Service) -> AnySpec:
    spec = read(body.document(), service.digests)
    admit(spec, service.settings.data_dirs, service.digests)
    return spec


@router.readable(
    "/v1/jobs", response_model=JobPage, responses=documented("bad_parameter", "database_unavailable")
)  # fmt: skip
def list_jobs(
    service: Serving,
    response: Response,
    state: Annotated[list[JobState], Query(description="Only jobs in these states.")] = [],  # noqa: B006 - FastAPI copies
    limit: Limit = 20,
    cursor: Cursor = None,
) -> JobPage:
    """List jobs, newest first."""
    with service.database.read() as session:
        found = jobs.page(session, states=state, after=after(cursor, JOB_PREFIX), limit=limit + 1)
        shown = tuple(JobSummary.of(job) for job in found[:limit])
    cursor = following(
        response, found, limit, prefix=JOB_PREFIX, path="/v1/jobs", query=[("state", s.value) for s in state]
    )
    return JobPage(data=shown, next_cursor=cursor, has_more=cursor is not None)


@router.readable(
    "/v1/jobs/{job_id}",
    response_model=Job,
    responses={
        OK: {"headers": HEADERS},
        NOT_MODIFIED: {"description": "The job is still what the ETag names.", "headers": HEADERS},
        **documented("job_not_found", "bad_parameter", "database_unavailable"),
    },
)
async def get_job(
    service: Serving, job_id: JobId, response: Response, if_none_match: Annotated[str | None, Header()] = None
) -> Any:
    """Show where a job stands."""
    return await answer(service, job_id, if_none_match, response)
