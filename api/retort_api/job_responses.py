"""One job as an answer: the job, and the headers that say which version it is and when to look again."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from retort.db import jobs
from retort.states import JobState
from starlette.concurrency import run_in_threadpool

from retort_api import http
from retort_api.deps import Service
from retort_api.errors import ACCEPTED, NOT_MODIFIED, OK
from retort_api.http import JSON
from retort_api.schemas.base import job_path
from retort_api.schemas.jobs import Job

FIRST_LOOK_S = 2
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


def look(service: Service, job_id: str, response: Response) -> Job:
    """Read a job."""
    with service.database.read() as session:
        job = jobs.get(session, job_id)
        shown = Job.whole(job, jobs.attempts_of_job(session, job_id), jobs.transitions_of_job(session, job_id))
    _tell(job.version, job.state, response)
    return shown


async def answer(service: Service, job_id: str, if_none_match: str | None, response: Response) -> Response:
    """Show the job unless it is what the client has; it is read whole only when its version is a new one."""
    standing = await service.standings(job_id)
    _tell(standing.version, standing.state, response)
    if http.unchanged(if_none_match, response.headers["ETag"]):
        return Response(None, NOT_MODIFIED, response.headers)
    shown = service.renderings.get(job_id, standing.version)
    if shown is None:
        shown = await run_in_threadpool(_render, service, job_id, standing.version, response)
    return Response(shown, OK, response.headers, JSON)


def _render(service: Service, job_id: str, version: int, response: Response) -> bytes:
    """Read the job, which may be newer than *version* by now, and keep what is shown."""
    shown = look(service, job_id, response).model_dump_json(by_alias=True).encode()
    if response.headers["ETag"] == http.strong(version):
        service.renderings.put(job_id, version, shown)
    return shown


async def submit(service: Service, submission: jobs.Submission, response: Response) -> Response:
    """Write down that the job is wanted, and show it, or the earlier one of its key."""
    submitted = await service.submissions(submission)
    if submitted.created:
        job = show_submitted(service, submitted, response)
    else:
        job = await run_in_threadpool(show_submitted, service, submitted, response)
    return Response(job.model_dump_json(by_alias=True), ACCEPTED, response.headers, JSON)


def show_submitted(service: Service, submitted: jobs.Submitted, response: Response) -> Job:
    """Ring for a job that is new, and show it: it is known without being read."""
    if submitted.job is not None and submitted.transition is not None:
        service.bell.ring(submitted.job_id)
        job = Job.whole(submitted.job, [], [submitted.transition])
        _tell(submitted.job.version, submitted.job.state, response)
    else:
        response.headers["Idempotency-Replayed"] = "true"
        job = look(service, submitted.job_id, response)
    response.headers["Location"] = job_path(submitted.job_id)
    response.headers["Retry-After"] = str(FIRST_LOOK_S)
    return job


def _tell(version: int, state: JobState, response: Response) -> None:
    response.headers["ETag"] = http.strong(version)
    if state in RETRY_AFTER_S:
        response.headers["Retry-After"] = str(RETRY_AFTER_S[state])
