"""Show a page of jobs, with filters, search and actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import Depends, Form, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from retort.access import Principal, Scope
from retort.constants import MAP, MAP50
from retort.db import job_list
from retort.db.job_list import JobFilter, Order
from retort.db.models import AttemptRow, JobRow
from retort.db.session import database_now
from retort.spec.verdict import Verdict
from retort.states import ACTIVE, JobState

from retort_api.deps import AppState, Caller, Serving
from retort_api.http import Limit
from retort_api.pages import words
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import own_path, render, see_other
from retort_api.routes.bulk import act_on_jobs
from retort_api.routes.job_list import JobCursor, job_filter, one_page
from retort_api.schemas.bulk import MOST, Bulk, BulkAnswer
from retort_api.schemas.jobs import Failure, QueuePlace

router = PageRouter()

ORDERS: dict[Order, str] = {
    "-created": "newest first",
    "created": "oldest first",
    "-finished": "ended last",
    "-best": "best mAP first",
    "name": "by name",
}
"""Orders that people choose among, in words."""
_SHOWN = (JobState.RUNNING, JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED)
"""States that can be chosen even where no job is in them."""
_DONE = {"cancel": "cancelled", "retry": "queued again", "delete": "moved to the trash"}
_MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job as the list shows it."""

    job: JobRow
    attempt: AttemptRow | None
    queue: QueuePlace | None

    @property
    def under_way(self) -> bool:
        """Whether a worker holds it."""
        return self.job.state in ACTIVE

    @property
    def failure(self) -> Failure | None:
        """Why it failed, or why it waits for another try."""
        return None if self.job.failure is None else Failure.model_validate(self.job.failure)

    @property
    def verdict(self) -> Verdict | None:
        """Verdict on its distillation; None without one."""
        try:
            return Verdict.model_validate((self.job.result or {})["verdict"])
        except (KeyError, ValidationError):
            return None  # an advice, or a result of another version

    @property
    def best(self) -> tuple[float | None, float | None]:
        """Its best mAP50-95 and mAP50."""
        best = self.job.best or {}
        return best.get(MAP), best.get(MAP50)


class BulkForm(BaseModel):
    """The jobs that are ticked, and what to do with them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["cancel", "retry", "delete", "compare"]
    ids: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=MOST)] = ()
    next: Annotated[str, Field(max_length=4096)] = "/"


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
    with service.read(caller) as session:
        jobs, following = one_page(session, wanted, order=order, limit=limit, cursor=cursor)
        attempts = job_list.latest_attempts(session, jobs)
        numbers = job_list.counts(session, wanted)
        now = database_now(session)
    lines = [JobLine(job, attempts.get(job.id), service.queue.place(job)) for job in jobs]
    return render(
        request, "jobs.html", title="Jobs", current="jobs", lines=lines, now=now, wanted=wanted, order=order,
        orders=ORDERS, tabs=list(_tabs(request, wanted, numbers)), filtered=_is_filtered(request),
        kept=_kept(request),
        following=None if following is None else _address(request, cursor=following),
        first=None if cursor is None else _address(request),
        trash=_address(request, deleted=None if wanted.deleted else "true", state=None),
            )  # fmt: skip


def _tabs(request: Request, wanted: JobFilter, numbers: dict[JobState, int]) -> Iterator[tuple[str, str, int, bool]]:
    """Yield name, address and number of each state that can be chosen, and whether it is."""
    yield "All", _address(request, state=None), sum(numbers.values()), not wanted.states
    more = [state for state in JobState if state not in _SHOWN and (state in numbers or state in wanted.states)]
    for state in (*_SHOWN, *more):
        said = words.state(state).capitalize()
        yield said, _address(request, state=state.value), numbers.get(state, 0), wanted.states == (state,)


def _address(request: Request, **changes: str | None) -> str:
    """Return the address of the list with some of its terms changed, from the first page on."""
    kept = [pair for pair in request.query_params.multi_items() if pair[0] not in {*changes, "cursor"}]
    pairs = [*kept, *((name, value) for name, value in changes.items() if value is not None)]
    return f"/?{urlencode([pair for pair in pairs if pair[1]])}" if pairs else "/"


def _kept(request: Request) -> list[tuple[str, str]]:
    """Return the terms of the address that the search has no fields for, but for the page."""
    pairs = request.query_params.multi_items()
    labels = [pair for pair in pairs if pair[0] == "label"]
    return [*labels[1:], *(pair for pair in pairs if pair[0] not in {"q", "owner", "order", "cursor", "label"})]


def _is_filtered(request: Request) -> bool:
    return bool(set(request.query_params) - {"order", "limit"})


@router.form("/jobs/bulk", scope=Scope.JOBS_WRITE)
def act_on_ticked_jobs(
    request: Request, service: Serving, caller: Caller, asked: Annotated[BulkForm, Form()]
) -> Response:
    """Do something to every job that is ticked."""
    if asked.action == "compare":
        return see_other(
            request, f"/compare?{urlencode([('job', one) for one in asked.ids])}" if asked.ids else "/compare"
        )
    return see_other(request, own_path(asked.next), _act(service, caller, asked))


def _act(service: AppState, caller: Principal, asked: BulkForm) -> str:
    if not asked.ids:
        return "Nothing was done: no job was ticked."
    return outcome(act_on_jobs(service, caller, Bulk(action=asked.action, ids=asked.ids)), asked.action)


def outcome(answer: BulkAnswer, action: str) -> str:
    """Say what became of an action on many jobs."""
    done = sum(one.done for one in answer.data)
    said = [f"{words.count(done, 'job')} {_DONE[action]}."] if done else []
    refused = Counter(one.detail or one.code or "refused" for one in answer.data if not one.done)
    if refused:
        reasons: Sequence[str] = [reason for reason, _ in refused.most_common(_MOST_REASONS)]
        more = "; and other reasons" if len(refused) > _MOST_REASONS else ""
        said.append(f"{words.count(refused.total(), 'job')} not: {'; '.join(reasons)}{more}.")
    return " ".join(said)
