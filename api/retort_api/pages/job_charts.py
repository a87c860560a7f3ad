"""Show a job's curves as charts, tables and CSV."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Annotated

from fastapi import Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from retort.access import Scope
from retort.db import Session, jobs, metrics
from retort.db.metrics import SeriesExtent
from retort.db.models import JobRow
from retort.errors import UserError

from retort_api.deps import Caller, JobId, Serving
from retort_api.errors import OK
from retort_api.pages.job_curves import (
    JobChart,
    csv_of,
    facts_of,
    health_charts,
    table_of,
    training_charts,
    unit_of,
)  # fmt: skip
from retort_api.pages.job_head import show
from retort_api.pages.job_health import read_health
from retort_api.pages.page_router import PageRouter

router = PageRouter()

MOST_POINTS = 10_000
"""Of a curve in a file, as everywhere; the page itself asks for fewer."""


class ExtentCache:
    """Keep the extents of the latest jobs' curves until the next event."""

    def __init__(self, most: int = 64) -> None:
        self._most, self._lock = most, Lock()
        self._kept: OrderedDict[str, tuple[int, list[SeriesExtent]]] = OrderedDict()

    def of(self, session: Session, job: JobRow) -> list[SeriesExtent]:
        """Return the extents of the job's curves."""
        with self._lock:
            kept = self._kept.get(job.id)
        if kept is not None and kept[0] == job.last_seq:
            return kept[1]
        found = metrics.extents(session, job.id)
        with self._lock:
            self._kept[job.id] = (job.last_seq, found)
            self._kept.move_to_end(job.id)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found


_EXTENTS = ExtentCache()


@router.page("/jobs/{job_id}/charts", scope=Scope.JOBS_READ)
def show_charts(request: Request, service: Serving, caller: Caller, job_id: JobId) -> HTMLResponse:
    """Show the curves of student, teacher and control."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        facts = facts_of(job)
        found = training_charts(_EXTENTS.of(session, job))
        shown = [(chart, table_of(session, job_id, chart, facts), unit_of(chart, facts)) for chart in found]
    return show(request, service, caller, job_id, "charts", "job_charts.html", charts=shown, facts=facts)


@router.page("/jobs/{job_id}/health", scope=Scope.JOBS_READ)
def show_health(request: Request, service: Serving, caller: Caller, job_id: JobId) -> HTMLResponse:
    """Say how the distillation does, and show the curves behind it."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        facts = facts_of(job)
        health = read_health(session, job_id)
        found = health_charts(_EXTENTS.of(session, job))
        shown = [(chart, table_of(session, job_id, chart, facts), unit_of(chart, facts)) for chart in found]
    return show(
        request, service, caller, job_id, "health", "job_health.html", charts=shown, facts=facts, health=health
    )  # fmt: skip


@router.page("/jobs/{job_id}/charts/{name}.csv", scope=Scope.JOBS_READ)
def send_csv(
    *,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    name: Annotated[str, Path(pattern=r"^[a-z0-9-]{1,40}$")],
    points: Annotated[int, Query(ge=10, le=MOST_POINTS)] = MOST_POINTS,
) -> Response:
    """Send the numbers of one chart.

    A curve of more than *points* is thinned, and keeps its lowest and highest value.
    """
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        extents = _EXTENTS.of(session, job)
        chart = _named((*training_charts(extents), *health_charts(extents)), name)
        if chart is None:
            hint = "a chart has a file once its curves have a point"
            raise UserError(f"job {job_id} has no chart {name}", code="not_found", hint=hint)
        found = metrics.thinned(session, job_id, chart.extents, most=points, attempts=job.attempt)
        facts = facts_of(job)
    headers = {
        "Content-Disposition": f'attachment; filename="{job.name}-{name}.csv"', "Cache-Control": "no-store",
    }  # fmt: skip
    return Response(csv_of(chart, found, facts), OK, headers, "text/csv; charset=utf-8")


def _named(charts: tuple[JobChart, ...], name: str) -> JobChart | None:
    return next((chart for chart in charts if chart.name == name), None)
