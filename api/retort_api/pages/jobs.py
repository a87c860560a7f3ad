"""Show a page of jobs, with filters, search and actions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request, Response
from retort.access import Scope
from retort.db import job_list
from retort.db.job_list import JobFilter, Order

from retort_api.deps import Caller, Serving
from retort_api.http import Limit
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render
from retort_api.routes.job_list import JobCursor, job_filter, one_page

router = PageRouter()


@router.page("/", scope=Scope.JOBS_READ)
def show_jobs(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    wanted: Annotated[JobFilter, Depends(job_filter)],
    order: Annotated[Order, Query()] = job_list.NEWEST,
    limit: Limit = 50,
    cursor: JobCursor = None,
) -> Response:
    """Show a page of the jobs."""
    jobs, following = one_page(service, caller, wanted, order=order, limit=limit, cursor=cursor)
    return render(request, "jobs.html", title="Jobs", current="jobs", jobs=jobs, following=following)
