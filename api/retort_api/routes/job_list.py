"""List jobs: filters, search, orders and pages."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from retort.access import Scope
from retort.db import Session, job_list
from retort.db.job_list import JobFilter, Order, Place
from retort.db.models import JOB_PREFIX, JobRow
from retort.states import JobState

from retort_api.deps import OWNER, Caller, Router, Serving, is_job_id
from retort_api.errors import BadParameter, documented
from retort_api.http import Deleted, Limit
from retort_api.labels import WantedLabels, parse_wanted
from retort_api.schemas.bulk import Time
from retort_api.schemas.jobs import JobPage, JobSummary

router = Router("jobs")

_TEXT = r"^[^\x00-\x1f\x7f]{1,255}$"
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
JobCursor = Annotated[
    str | None,
    Query(description="`next_cursor` of the page before, in the same order.", pattern="^[A-Za-z0-9_-]{1,700}$"),
]


async def job_filter(
    *,
    state: Annotated[list[JobState], Query(description="Only jobs in these states.")] = [],  # noqa: B006 - copied
    name: Annotated[str | None, Query(pattern=_TEXT, description="Exactly this name.")] = None,
    owner: Annotated[str | None, Query(pattern=OWNER)] = None,
    label: WantedLabels = [],  # noqa: B006 - copied
    created_after: Annotated[Time | None, Query(description="At this time or later.")] = None,
    created_before: Annotated[Time | None, Query(description="Before this time.")] = None,
    student: Annotated[str | None, Query(pattern=_TEXT, description="Architecture or weights file.")] = None,
    teacher: Annotated[str | None, Query(pattern=_TEXT, description="Weights file of any teacher.")] = None,
    dataset: Annotated[str | None, Query(pattern=_TEXT, description="Name, reference or folder.")] = None,
    recipe: Annotated[str | None, Query(pattern=_TEXT)] = None,
    sweep: Annotated[str | None, Query(pattern=_TEXT, description="Id of the sweep of which they are trials.")] = None,
    q: Annotated[
        str | None, Query(pattern=_TEXT, description="Words that all stand in the name or the labels.")
    ] = None,
    deleted: Deleted = False,
) -> JobFilter:
    """Return the filter that the query names."""
    return JobFilter(
        states=tuple(state), name=name, owner=owner, labels=parse_wanted(label), student=student, teacher=teacher,
        dataset=dataset, recipe=recipe, sweep_id=sweep, text=q, created_from=_seconds(created_after),
        created_before=_seconds(created_before), deleted=deleted,
    )  # fmt: skip


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else min(max(time, _FIRST), _LAST).timestamp()


@router.readable(
    "/v1/jobs",
    scope=Scope.JOBS_READ,
    response_model=JobPage,
    responses=documented("bad_parameter", "database_unavailable"),
)
def list_jobs(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    response: Response,
    wanted: Annotated[JobFilter, Depends(job_filter)],
    order: Annotated[
        Order, Query(description="`-` puts the largest first; jobs that lack the value come last.")
    ] = job_list.NEWEST,
    limit: Limit = 20,
    cursor: JobCursor = None,
) -> JobPage:
    """List jobs, newest first or in another order; filters narrow the list together.

    A cursor goes on behind the last job of its page. In the order of `created` every job is seen once; where jobs
    change between two pages, those of another order may be seen twice or not at all.
    """
    with service.read(caller) as session:
        rows, following = one_page(session, wanted, order=order, limit=limit, cursor=cursor)
    shown = tuple(JobSummary.of(job, service.queue.place(job)) for job in rows)
    if following is not None:
        query = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
        response.headers["Link"] = f'</v1/jobs?{urlencode([*query, ("cursor", following)])}>; rel="next"'
    return JobPage(data=shown, next_cursor=following, has_more=following is not None)


def one_page(
    session: Session, wanted: JobFilter, *, order: Order, limit: int, cursor: str | None
) -> tuple[list[JobRow], str | None]:
    """Return a page of the jobs, and the cursor of the next; it is None on the last."""
    terms = _digest(wanted, order)
    found = job_list.page(session, wanted, order=order, after=_read(cursor, terms, order), limit=limit + 1)
    return found[:limit], _written(job_list.place(found[limit - 1], order), terms) if len(found) > limit else None


def _digest(wanted: JobFilter, order: Order) -> str:
    """Name the list: a cursor belongs to one alone."""
    return hashlib.sha256(f"{wanted} {order}".encode(errors="surrogatepass")).hexdigest()[:12]


def _written(place: Place, terms: str) -> str:
    told = json.dumps([terms, place.value, place.job_id.removeprefix(JOB_PREFIX)], separators=(",", ":"))
    return base64.urlsafe_b64encode(told.encode()).decode().rstrip("=")


def _read(cursor: str | None, terms: str, order: Order) -> Place | None:
    """Return the place that a cursor names; whoever writes one himself gets no further than to a refusal."""
    if cursor is None:
        return None
    try:
        told: Any = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        named, value, job_id = told
        whole = isinstance(named, str) and is_job_id(JOB_PREFIX + job_id) and _fits(value, order)
    except (TypeError, ValueError, RecursionError):
        whole = False
    if not whole:
        raise BadParameter("query.cursor", "is no cursor of this order", hint="send next_cursor of the page before")
    if named != terms:
        hint = "send the same filters and the same order as for the page before"
        raise BadParameter("query.cursor", "belongs to another list", hint=hint)
    return Place(value, JOB_PREFIX + job_id)


def _fits(value: object, order: Order) -> bool:
    if order.removeprefix("-") in {"created", "name"}:
        return isinstance(value, str) and value.isprintable()
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
