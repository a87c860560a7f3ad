"""Show the page that tries a job's networks on a picture."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import HTMLResponse
from retort.access import Scope
from retort.db import jobs, predictions

from retort_api.deps import Caller, JobId, Serving
from retort_api.pages.job_head import show
from retort_api.pages.page_router import PageRouter

router = PageRouter()


@router.page("/jobs/{job_id}/try", scope=Scope.JOBS_READ)
def show_try(request: Request, service: Serving, caller: Caller, job_id: JobId) -> HTMLResponse:
    """Show the place for a picture, and the networks that can look at it."""
    with service.read(caller) as session:
        found = predictions.networks(session, jobs.get(session, job_id))
    largest = service.settings.max_image_bytes
    return show(request, service, caller, job_id, "try", "job_try.html", networks=found, largest=largest)
