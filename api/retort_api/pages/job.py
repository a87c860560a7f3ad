"""Show one job, and take what its buttons ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from retort.access import Scope
from retort.db import artifacts, jobs
from retort.report.verdict import NOTHING
from retort.spec.evaluated import EvaluationResult
from retort.spec.exported import MeasuredExport
from retort.spec.result import JobResult

from retort_api.deps import IDEMPOTENCY_KEY, Caller, JobId, Serving
from retort_api.pages.job_changes import changeable, patch_of
from retort_api.pages.job_files import lines_of
from retort_api.pages.job_head import show
from retort_api.pages.job_so_far import so_far
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import see_other
from retort_api.routes import job_actions, trash
from retort_api.schemas.jobs import Change, Extend

router = PageRouter()

Key = Annotated[str | None, Form(pattern=IDEMPOTENCY_KEY)]
"""Sent by the page, so that a form that is sent twice makes one job."""


@router.page("/jobs/{job_id}", scope=Scope.JOBS_READ)
def show_job(request: Request, service: Serving, caller: Caller, job_id: JobId) -> HTMLResponse:
    """Show where a job stands, what it reached, and what can be done."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        found = job.found
        standing = so_far(session, job_id) if found is None and job.best is not None else None
        exported = found.exports if isinstance(found, EvaluationResult) else ()
        snippets = lines_of(job, artifacts.of_job(session, job_id)) if exported else ()
    result = found if isinstance(found, JobResult) else None
    return show(
        request, service, caller, job_id, "overview", "job.html",
        result=result, other=found, standing=standing, nothing=NOTHING, snippets=snippets,
        forms=[(one, one if isinstance(one, MeasuredExport) else None) for one in exported],
    )  # fmt: skip


@router.form("/jobs/{job_id}/cancel", scope=Scope.JOBS_WRITE)
def cancel(request: Request, service: Serving, caller: Caller, job_id: JobId) -> RedirectResponse:
    """Cancel the job."""
    job_actions.cancel_job(service, caller, job_id, Response())
    return _back(request, job_id, "The job is being cancelled; what it has published stays.")


@router.form("/jobs/{job_id}/stop", scope=Scope.JOBS_WRITE)
def stop(request: Request, service: Serving, caller: Caller, job_id: JobId) -> RedirectResponse:
    """End the training and keep the best network."""
    job_actions.stop_job(service, caller, job_id, Response())
    return _back(request, job_id, "The training ends now; the best network so far is evaluated and published.")


@router.form("/jobs/{job_id}/pause", scope=Scope.JOBS_WRITE)
def pause(request: Request, service: Serving, caller: Caller, job_id: JobId) -> RedirectResponse:
    """Pause the job."""
    job_actions.pause_job(service, caller, job_id, Response())
    return _back(request, job_id, "The job pauses, and goes on from its last whole epoch when it is resumed.")


@router.form("/jobs/{job_id}/resume", scope=Scope.JOBS_WRITE)
def resume(request: Request, service: Serving, caller: Caller, job_id: JobId) -> RedirectResponse:
    """Resume the job."""
    job_actions.resume_job(service, caller, job_id, Response())
    return _back(request, job_id, "The job goes on.")


@router.form("/jobs/{job_id}/retry", scope=Scope.JOBS_WRITE)
def retry(
    request: Request, service: Serving, caller: Caller, job_id: JobId, key: Key = None
) -> RedirectResponse:  # fmt: skip
    """Queue a new job that resumes this one from its last saved state."""
    made = job_actions.retry_job(service, caller, job_id, Response(), key)
    return _back(request, made.id, "This job goes on where the other one ended.")


async def _fields(request: Request) -> Mapping[str, str]:
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


@router.form("/jobs/{job_id}/retry-changed", scope=Scope.JOBS_WRITE)
def retry_changed(
    *, request: Request, service: Serving, caller: Caller, job_id: JobId,
    fields: Annotated[Mapping[str, str], Depends(_fields)], key: Key = None,
) -> RedirectResponse:  # fmt: skip
    """Queue a new job with the fields changed that the failure's hint names."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        offered = changeable(job.failure or {}, job.spec)
    patch = patch_of(fields, offered)
    made = job_actions.clone_job(
        service=service, caller=caller, job_id=job_id, response=Response(), patch=patch, idempotency_key=key
    )
    return _back(request, made.id, "This job begins anew, with the change.")


@router.form("/jobs/{job_id}/extend", scope=Scope.JOBS_WRITE)
def extend(
    *, request: Request, service: Serving, caller: Caller, job_id: JobId,
    epochs: Annotated[int, Form(ge=1, le=10_000)], key: Key = None,
) -> RedirectResponse:  # fmt: skip
    """Queue a new job that adds epochs to this one."""
    made = job_actions.extend_job(
        service=service, caller=caller, job_id=job_id, more=Extend(epochs=epochs), response=Response(),
        idempotency_key=key,
    )  # fmt: skip
    return _back(request, made.id, f"This job adds {epochs} epochs to the other one.")


@router.form("/jobs/{job_id}/keep", scope=Scope.JOBS_WRITE)
def keep(
    *, request: Request, service: Serving, caller: Caller, job_id: JobId, keep: Annotated[bool, Form()] = False
) -> RedirectResponse:  # fmt: skip
    """Pin the job, or let it go."""
    job_actions.change_job(
        service=service, caller=caller, job_id=job_id, change=Change(keep=keep), response=Response()
    )  # fmt: skip
    return _back(request, job_id, "Retention passes the job by." if keep else "The job is pinned no more.")


@router.form("/jobs/{job_id}/delete", scope=Scope.JOBS_WRITE)
def delete(request: Request, service: Serving, caller: Caller, job_id: JobId) -> RedirectResponse:
    """Move the job to the trash."""
    trash.delete_job(service, caller, job_id)
    return _back(
        request, job_id, "The job is in the trash, with all that it published. It can be restored for a while."
    )


@router.form("/jobs/{job_id}/restore", scope=Scope.JOBS_WRITE)
def restore(request: Request, service: Serving, caller: Caller, job_id: JobId) -> RedirectResponse:
    """Take the job out of the trash."""
    trash.restore_job(service, caller, job_id, Response())
    return _back(request, job_id, "The job is restored.")


def _back(request: Request, job_id: str, said: str) -> RedirectResponse:
    return see_other(request, f"/jobs/{job_id}", said)
