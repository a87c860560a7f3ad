"""Show a job's curves as charts, tables and CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Path, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from retort.access import Principal, Scope
from retort.db import Session, jobs, metrics
from retort.db.models import JobRow
from retort.errors import UserError

from retort_api.deps import AppState, Caller, JobId, Serving
from retort_api.errors import OK
from retort_api.pages.chart_cache import ChartCache
from retort_api.pages.job_curves import (
    CurveFacts,
    JobChart,
    facts_of,
    header_of,
    health_charts,
    read_points,
    rows_of,
    table_of,
    training_charts,
    unit_of,
)  # fmt: skip
from retort_api.pages.job_head import show
from retort_api.pages.job_health import read_health
from retort_api.pages.page_router import PageRouter

router = PageRouter()

MOST_POINTS = 10_000
"""Of a curve in a thinned file; the page itself asks for fewer."""
_PIECE = 4000
"""Epochs of a whole file that are read at once."""
_LARGEST = 2**53 - 1
_CHARTS = ChartCache()


@router.page("/jobs/{job_id}/charts", scope=Scope.JOBS_READ)
def show_charts(request: Request, service: Serving, caller: Caller, job_id: JobId) -> HTMLResponse:
    """Show the curves of student, teacher and control."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        extents = metrics.extents(session, job_id)
        facts = facts_of(session, job, extents)
        found = training_charts(extents)
        shown = [(chart, table_of(session, job_id, chart, facts), unit_of(chart, facts)) for chart in found]
    return show(request, service, caller, job_id, "charts", "job_charts.html", charts=shown, facts=facts)


@router.page("/jobs/{job_id}/health", scope=Scope.JOBS_READ)
def show_health(request: Request, service: Serving, caller: Caller, job_id: JobId) -> HTMLResponse:
    """Say how the distillation does, and show the curves behind it."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        extents = metrics.extents(session, job_id)
        facts = facts_of(session, job, extents)
        health = read_health(session, job_id)
        found = health_charts(extents)
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
    points: Annotated[int | None, Query(ge=10, le=MOST_POINTS)] = None,
    after: Annotated[int | None, Query(ge=-_LARGEST, le=_LARGEST)] = None,
) -> Response:
    """Send the numbers of one chart, or those *after* an epoch.

    With *points*, longer curves are thinned, and keep their lowest and highest values.
    """
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        extents = metrics.extents(session, job_id)
        chart = _named((*training_charts(extents), *health_charts(extents)), name)
        if chart is None:
            hint = "a chart has a file once its curves have a point"
            raise UserError(f"job {job_id} has no chart {name}", code="not_found", hint=hint)
        facts = facts_of(session, job, extents)
        thin = None
        if points is not None and after is None:
            thin = _CHARTS.rows(session, job, chart, facts, points)
        elif points is not None:
            thin = _rows(session, job, chart, facts, points, after=after)
    headers = {
        "Content-Disposition": f'attachment; filename="{job.name}-{name}.csv"', "Cache-Control": "no-store",
    }  # fmt: skip
    if thin is not None:
        return Response(header_of(chart) + thin, OK, headers, "text/csv; charset=utf-8")
    return StreamingResponse(_whole(service, caller, job, chart, facts, after), OK, headers, "text/csv; charset=utf-8")


def _rows(
    session: Session, job: JobRow, chart: JobChart, facts: CurveFacts, most: int, *, after: int | None,
    until: int | None = None,
) -> str:  # fmt: skip
    """Read the rows of a chart's file after one epoch and until another."""
    return rows_of(chart, read_points(session, job, chart, facts, most, after, until), facts, after)


def _whole(  # noqa: PLR0917 - one chart, and whose
    service: AppState, caller: Principal, job: JobRow, chart: JobChart, facts: CurveFacts, after: int | None
) -> Iterator[str]:
    """Yield a chart's file piece by piece, each read by itself."""
    yield header_of(chart)
    first, last = min(one.first for one in chart.extents), max(one.last for one in chart.extents)
    place = first - 1 if after is None else max(after, first - 1)
    while place < last:
        with service.read(caller) as session:
            until = min(place + _PIECE, last)
            yield _rows(session, job, chart, facts, _PIECE * 2, after=place, until=until)
            place = until
            begins = [metrics.steps_from(session, job.id, one.series, [place + 1])[0] for one in chart.extents]
            place = min((step for step in begins if step is not None), default=last + 1) - 1


def _named(charts: tuple[JobChart, ...], name: str) -> JobChart | None:
    return next((chart for chart in charts if chart.name == name), None)
