"""Compare two to six jobs, or the trials of a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from retort.access import Principal, Scope
from retort.db import Session, job_list, jobs, sweeps
from retort.db.job_list import JobFilter
from retort.db.jobs import JobNotFound
from retort.db.models import JobRow
from retort.report.comparison import MOST
from retort.states import JobState, TrialState
from retort.sweeps.trial_plots import Plot, plots

from retort_api.deps import AppState, Caller, Serving
from retort_api.errors import OK, BadParameter
from retort_api.pages.compare_gains import gain_chart
from retort_api.pages.comparing import (
    CURVES,
    DASHES,
    ComparedJobs,
    extents_of,
    same_images,
    table_of,
    thinned_curve,
    timed,
    timed_on,
    whole_curve,
)
from retort_api.pages.job_samples import OUTCOMES, sample_groups
from retort_api.pages.latency_plane import latency_plane
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import HEADERS, render
from retort_api.schemas.sweeps import Sweep

router = PageRouter()

_OFFERED = 30
JobIds = Annotated[
    list[Annotated[str, Query(pattern="^job_[0-9a-f]{32}$")]], Query(alias="job", description="Two to six jobs.")
]
SweepToCompare = Annotated[str | None, Query(pattern="^swp_[0-9a-f]{32}$", description="Its best trials.")]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The jobs to compare, and the sweep that they are trials of."""

    rows: tuple[JobRow, ...]
    sweep: Sweep | None = None

    @property
    def query(self) -> str:
        """The part of an address that chooses them."""
        ids = [("job", row.id) for row in self.rows]
        return urlencode(ids if self.sweep is None else [("sweep", self.sweep.id)])


@router.page("/compare", scope=Scope.JOBS_READ)
def show_comparison(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    job: JobIds = [],  # noqa: B006 - FastAPI copies
    sweep: SweepToCompare = None,
    metric: Annotated[str, Query(pattern="^[a-z0-9]{1,20}$")] = "map",
) -> Response:
    """Show jobs beside each other, or let people choose them."""
    if metric not in CURVES:
        raise BadParameter("query.metric", f"{metric!r} is not known", hint=f"known: {', '.join(CURVES)}")
    chosen = _chosen(service, caller, job, sweep)
    if len(chosen.rows) < 2 and sweep is None:
        return _offer(request, service, caller, chosen)
    compared = ComparedJobs(chosen.rows)
    with service.read(caller) as session:
        extents = extents_of(session, chosen.rows)
        overlaid = thinned_curve(session, chosen.rows, extents, metric)
    measured = {name for one in extents.values() for name in one}
    offered = {name: about for name, about in CURVES.items() if about[0] in measured or name == metric}
    drawn: Sequence[Plot] = () if chosen.sweep is None else plots(chosen.sweep.model_dump(mode="json"))
    return render(
        request, "compare.html", title="Compare", current="jobs", compared=compared, chosen=chosen,
        rows=chosen.rows, comparison=compared.comparison, figures=compared.figures(), curve=overlaid, metric=metric,
        curves=offered, plane=latency_plane(timed(chosen.rows, compared.results)), devices=timed_on(compared.results),
        gains=gain_chart(chosen.rows, compared.results), dashes=DASHES,
        names_json=json.dumps([row.name for row in chosen.rows]), dashes_json=json.dumps(DASHES),
        sweep=chosen.sweep, plots=drawn, most=MOST,
    )  # fmt: skip


@router.page("/compare/images", scope=Scope.JOBS_READ)
def show_images(
    request: Request, service: Serving, caller: Caller, job: JobIds = [], sweep: SweepToCompare = None  # noqa: B006
) -> Response:  # fmt: skip
    """Show the answers of the students on images that several reports have."""
    chosen = _chosen(service, caller, job, sweep)
    found = same_images([(row, sample_groups(service, caller, row.id)) for row in chosen.rows])
    return render(
        request, "compare_images.html", title="The same images", current="jobs", chosen=chosen, samples=found,
        outcomes=OUTCOMES,
    )  # fmt: skip


@router.page("/compare.csv", scope=Scope.JOBS_READ)
def send_table(
    service: Serving, caller: Caller, job: JobIds = [], sweep: SweepToCompare = None  # noqa: B006 - FastAPI copies
) -> Response:  # fmt: skip
    """Send all numbers of a comparison as CSV."""
    chosen = _chosen(service, caller, job, sweep)
    ids = [row.id for row in chosen.rows]
    with service.read(caller) as session:
        found = {name: one for name in CURVES if (one := whole_curve(session, ids, name)) is not None}
    disposition = 'attachment; filename="comparison.csv"'
    headers = {**HEADERS, "Content-Disposition": disposition}
    return Response(table_of(ComparedJobs(chosen.rows), found), OK, headers, "text/csv; charset=utf-8")


def _chosen(service: AppState, caller: Principal, job: Sequence[str], sweep: str | None) -> Chosen:
    """Return the jobs that the address names, each once.

    Raises:
        BadParameter: there are too many of them.
        JobNotFound: there is no such job.
        SweepNotFound: there is no such sweep.

    """
    ids = list(dict.fromkeys(job))
    if len(ids) > MOST:
        raise BadParameter("query.job", f"names {len(ids)} jobs", hint=f"two to {MOST}: more cannot be told apart")
    if sweep is not None and ids:
        raise BadParameter("query.sweep", "cannot be given beside jobs", hint="name a sweep, or two to six jobs")
    with service.read(caller) as session:
        if sweep is None:
            return Chosen(tuple(jobs.get(session, one) for one in ids))
        row, listed = sweeps.get(session, sweep), sweeps.trials(session, sweep)
        shown = Sweep.whole(row, sweeps.bests(session, [sweep]).get(sweep), listed)
        best = [one for one in shown.trials if one.state is TrialState.SUCCEEDED and one.value is not None]
        sign = -1 if row.spec["objective"]["goal"] == "maximize" else 1
        best.sort(key=lambda one: (sign * (one.value or 0.0), one.number))
        found = (_kept(session, one.job_id) for one in best if one.job_id is not None)
        return Chosen(tuple(islice((row for row in found if row is not None), MOST)), shown)


def _kept(session: Session, job_id: str) -> JobRow | None:
    """Return the job of a trial; None where retention has taken it."""
    try:
        return jobs.get(session, job_id)
    except JobNotFound:
        return None


def _offer(request: Request, service: AppState, caller: Principal, chosen: Chosen) -> Response:
    """Show the latest jobs that have something to compare."""
    wanted = JobFilter(states=(JobState.SUCCEEDED, JobState.RUNNING))
    with service.read(caller) as session:
        offered = job_list.page(session, wanted, limit=_OFFERED)
        searches = sweeps.page(session, limit=10)
    return render(
        request, "compare_choice.html", title="Compare", current="jobs", offered=offered, sweeps=searches, most=MOST,
        ticked={row.id for row in chosen.rows},
    )  # fmt: skip
