"""Serve jobs: submit one, and show one with the headers of its version."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Response
from retort.access import Principal, Scope
from retort.db import jobs
from retort.states import TERMINAL, JobState
from starlette.concurrency import run_in_threadpool

from retort_api import http
from retort_api.deps import AppState, Caller, JobId, Router, Serving
from retort_api.errors import ACCEPTED, NOT_MODIFIED, OK, documented
from retort_api.http import JSON, YAML, Body, read_body
from retort_api.labels import Labels, parse_labels
from retort_api.schemas.jobs import Job, job_path
from retort_api.schemas.validation import Validation
from retort_api.terms import Terms
from retort_api.validation import admitted, validate

router = Router("jobs")

_KINDS = ("JobSpec", "AdviceSpec", "EvaluateSpec")
_SPEC = {"schema": {"anyOf": [{"$ref": f"#/components/schemas/{kind}"} for kind in _KINDS]}}
SPEC_BODY = {"required": True, "content": {JSON: _SPEC, YAML: _SPEC}}

FIRST_LOOK_S = 2
_LOOK_S = 0.5
"""How often the jobs that clients wait for are looked at."""
RETRY_AFTER_S = {
    JobState.QUEUED: 10, JobState.RUNNING: 2, JobState.CANCELLING: 2, JobState.PAUSING: 2, JobState.PAUSED: 30,
    JobState.AWAITING_REVIEW: 30,
}  # fmt: skip
"""When looking again may show something new; a job that has ended does not change."""
HEADERS: dict[str, Any] = {
    "ETag": {"description": "The job's version.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which looking again is worth it; absent once the job has ended.",
        "schema": {"type": "integer"},
    },
}
SUBMITTED_HEADERS: dict[str, Any] = {
    **HEADERS,
    "Location": {"description": "Address of the job.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true` when the key was known: the job is the earlier one.", "schema": {"type": "string"},
    },
}  # fmt: skip


@router.post(
    "/v1/jobs", scope=Scope.JOBS_WRITE,
    status_code=ACCEPTED,
    response_model=Job,
    openapi_extra={"requestBody": SPEC_BODY},
    responses={
        OK: {"model": Validation, "description": "With `dry_run`: the spec is right, and nothing is queued."},
        ACCEPTED: {"headers": SUBMITTED_HEADERS},
        **documented(
            "forbidden", "project_not_found", "unreadable_body", "body_too_large", "unsupported_media_type", "bad_spec",
            "bad_parameter",
            "idempotency_key_reused", "database_unavailable",
        ),
    },
)  # fmt: skip
async def submit_job(
    *,
    service: Serving,
    response: Response,
    body: Annotated[Body, Depends(read_body)],
    terms: Terms,
    label: Labels = [],  # noqa: B006 - FastAPI copies
    dry_run: Annotated[bool, Query(description="Check the spec, and queue nothing.")] = False,
) -> Any:
    """Submit a spec; the job is queued when this returns.

    With an `Idempotency-Key` it is safe to send the same spec again after a broken connection: the same key and spec
    (spelling, order and defaults left out do not matter) answer with the job of the first time.
    """
    labels = parse_labels(label)
    if dry_run:
        return await run_in_threadpool(validate, body, service, terms.caller, terms.project)
    spec, warnings = await run_in_threadpool(admitted, body, service, terms.caller, terms.project)
    submission = jobs.Submission(
        spec=spec, retries=service.settings.max_retries, project=terms.project, owner=terms.owner,
        priority=terms.priority, key=terms.key(spec), warnings=warnings, labels=labels,
    )  # fmt: skip
    return await submit(service, terms.caller, submission, response)


async def submit(service: AppState, caller: Principal, submission: jobs.Submission, response: Response) -> Response:
    """Write down that the job is wanted, and show it, or the earlier one of its key."""
    submitted = await service.submissions(submission)
    if submitted.created:
        job = submitted_response(service, caller, submitted, response)
    else:
        job = await run_in_threadpool(submitted_response, service, caller, submitted, response)
    return Response(job.model_dump_json(by_alias=True), ACCEPTED, response.headers, JSON)


def submitted_response(service: AppState, caller: Principal, submitted: jobs.SubmittedJob, response: Response) -> Job:
    """Return the response of a submission; notify workers of a new job."""
    if submitted.job is not None and submitted.transition is not None:
        service.notifier.notify(submitted.job_id)
        job = Job.whole(submitted.job, [], [submitted.transition])
        _set_headers(http.strong(submitted.job.version), submitted.job.state, response)
    else:
        response.headers["Idempotency-Replayed"] = "true"
        job = read_job(service, caller, submitted.job_id, response)
    response.headers["Location"] = job_path(submitted.job_id)
    response.headers["Retry-After"] = str(FIRST_LOOK_S)
    return job


def _set_headers(etag: str, state: JobState, response: Response) -> None:
    response.headers["ETag"] = etag
    if state in RETRY_AFTER_S:
        response.headers["Retry-After"] = str(RETRY_AFTER_S[state])


@router.readable(
    "/v1/jobs/{job_id}",
    scope=Scope.JOBS_READ,
    response_model=Job,
    responses={
        OK: {"headers": HEADERS},
        NOT_MODIFIED: {"description": "The job is still what the ETag names.", "headers": HEADERS},
        **documented("job_not_found", "bad_parameter", "database_unavailable"),
    },
)
async def get_job(
    *,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    response: Response,
    if_none_match: Annotated[str | None, Header()] = None,
    wait: Annotated[
        float, Query(ge=0, le=60, description="Seconds to wait for the job to change, or to end: see above.")
    ] = 0.0,
) -> Any:
    """Show where a job stands.

    With `wait` the answer comes once the job is no longer what `If-None-Match` names, or, without that header, once it
    has ended; at the latest after so many seconds, as it then is.
    """
    # The job is read whole only when its version is a new one.
    standing = await _standing(service, caller, job_id, if_none_match, wait)
    told = job_id, standing.version, standing.state
    etag = service.queue.fresh_etag(*told)
    if etag is None:
        etag = await run_in_threadpool(service.queue.etag, *told)
    _set_headers(etag, standing.state, response)
    if http.unchanged(if_none_match, etag):
        return Response(None, NOT_MODIFIED, response.headers)
    shown = service.responses.get(job_id, etag)
    if shown is None:
        shown = await run_in_threadpool(_render, service, caller, job_id, etag, response)
    return Response(shown, OK, response.headers, JSON)


async def _standing(
    service: AppState, caller: Principal, job_id: str, known: str | None, wait_s: float
) -> jobs.JobVersion:
    """Return the job's version once it is news.

    All that wait look at the same moments, so that one query of the batcher serves them all, and none holds a thread.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while True:
        standing = await service.versions(job_id)
        if caller.reach not in {None, standing.project}:
            raise jobs.JobNotFound(f"there is no job {job_id}")
        news = standing.state in TERMINAL if known is None else not http.knows(known, standing.version)
        now = loop.time()
        if news or standing.state in TERMINAL or now >= deadline or service.stopping.is_set():
            return standing
        await asyncio.sleep(min(_LOOK_S - now % _LOOK_S, deadline - now))


def _render(service: AppState, caller: Principal, job_id: str, etag: str, response: Response) -> bytes:
    """Read the job, which may be newer than *etag* by now, and keep what is shown."""
    shown = read_job(service, caller, job_id, response).model_dump_json(by_alias=True).encode()
    if response.headers["ETag"] == etag:
        service.responses.put(job_id, etag, shown)
    return shown


def read_job(service: AppState, caller: Principal, job_id: str, response: Response) -> Job:
    """Read a job."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        attempts, transitions = jobs.attempts_of_job(session, job_id), jobs.transitions_of_job(session, job_id)
    shown = Job.whole(job, attempts, transitions, service.queue.place(job))
    _set_headers(service.queue.etag(job_id, job.version, job.state), job.state, response)
    return shown
