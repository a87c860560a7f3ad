"""Show the workers, the queue, and what is used; drain a worker."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Form, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from retort.access import Principal, Scope
from retort.db import garbage, jobs, upkeep, usage, workers
from retort.db.models import JobRow
from retort.states import ACTIVE, JobState

from retort_api.deps import AppState, Caller, Serving
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render, see_other
from retort_api.routes.usage import get_usage
from retort_api.routes.workers import list_workers, set_drained
from retort_api.schemas.jobs import QueuePlace
from retort_api.schemas.service import Worker
from retort_api.schemas.usage import ProjectUsage

router = PageRouter()

_LINE = 50
"""Jobs of the queue that are shown."""


class DrainForm(BaseModel):
    """The form that drains a worker, or lets it take jobs again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    worker: Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
    wanted: Literal["drain", "resume"]


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job of the queue, and for what it waits."""

    job: JobRow
    place: QueuePlace | None


@dataclass(slots=True)
class OwnerUse:
    """Usage of one owner."""

    project: str
    owner: str
    states: dict[str, int] = field(default_factory=dict)
    stored_bytes: int = 0
    deleted_bytes: int = 0
    gpu_s: float = 0.0
    gpu_s_this_month: float = 0.0

    @property
    def active(self) -> int:
        """Number of jobs on workers."""
        return sum(self.states.get(state.value, 0) for state in ACTIVE)

    @property
    def queued(self) -> int:
        """Number of jobs that wait."""
        return self.states.get(JobState.QUEUED.value, 0)


@dataclass(frozen=True, slots=True)
class StoreUse:
    """Content of the store, and the space that is left."""

    kinds: dict[str, int]
    total: int
    most: int | None
    """As the operator allows."""
    waiting: garbage.Garbage
    database_bytes: float
    free_bytes: int | None
    floor_bytes: int
    full: str | None
    """Why nothing more is taken; None where there is room."""


@router.page("/workers", scope=Scope.JOBS_READ)
def show_workers(
    *, request: Request, service: Serving, caller: Caller,
    live: Annotated[bool, Query(description="Leave out what changes slowly: usage, store and disk.")] = False,
) -> Response:  # fmt: skip
    """Show what each worker does, why each job waits, and who uses what."""
    may_look = Scope.SERVICE_READ in caller.scopes
    first = service.queue.line(caller.reach, _LINE)  # it reads by itself, and the other transaction would wait for it
    with service.read(caller) as session:
        held, counts = workers.runs(session), jobs.counts(session)
        line = jobs.of_ids(session, first)
    by_worker: dict[str, list[JobRow]] = defaultdict(list)
    for job in held:
        by_worker[job.worker or ""].append(job)
    running: tuple[Worker, ...] = list_workers(service, caller).data if may_look else ()
    known = {one.name for one in running}
    return render(
        request, "workers.html", title="Workers and queue", current="workers", workers=running, runs=by_worker,
        astray=[job for job in held if job.worker not in known], may_look=may_look, now=time.time(),
        queue=[WaitingJob(job, service.queue.place(job)) for job in line if job.state is JobState.QUEUED],
        num_queued=counts.get(JobState.QUEUED, 0),
        owners=None if live else owners(get_usage(service, caller), time.time()),
        store=_store(service, caller) if may_look and not live else None,
    )  # fmt: skip


def owners(found: ProjectUsage, now: float) -> list[OwnerUse]:
    """Return what each owner uses, who stores most first."""
    month = datetime.fromtimestamp(now, UTC).strftime("%Y-%m")
    whose: dict[tuple[str, str], OwnerUse] = {}

    def of(one: Any) -> OwnerUse:
        return whose.setdefault((one.project, one.owner), OwnerUse(one.project, one.owner))

    for owned in found.jobs:
        of(owned).states = owned.states
    for kept in found.stored:
        of(kept).stored_bytes += kept.size_bytes
        of(kept).deleted_bytes += kept.deleted_bytes
    for worked in found.worked:
        of(worked).gpu_s += worked.gpu_s
        of(worked).gpu_s_this_month += worked.gpu_s if worked.month == month else 0.0
    return sorted(whose.values(), key=lambda one: (-one.stored_bytes, one.project, one.owner))


def _store(service: AppState, caller: Principal) -> StoreUse:
    with service.read(caller) as session:
        kinds, waiting = usage.bytes_by_kind(session), garbage.waiting(session)
    full = service.disk.full()
    return StoreUse(
        kinds={kind: size for kind, size in _largest(kinds.items()) if size}, total=service.disk.stored_bytes(),
        most=service.settings.max_store_bytes, waiting=waiting, database_bytes=upkeep.size_bytes(service.database),
        free_bytes=service.disk.free_bytes(), floor_bytes=service.settings.min_free_bytes,
        full=None if full is None else full[0],
    )  # fmt: skip


def _largest(kinds: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return Counter(dict(kinds)).most_common()


@router.form("/workers/drain", scope=Scope.SERVICE_OPERATE)
def drain_worker_by_form(
    request: Request, service: Serving, caller: Caller, asked: Annotated[DrainForm, Form()]
) -> Response:
    """Let a worker take no more jobs, or take them again."""
    drained = asked.wanted == "drain"
    set_drained(service, caller, asked.worker, drained=drained)
    said = "takes no more jobs; what it trains is trained to its end" if drained else "takes jobs again"
    return see_other(request, "/workers", f"{asked.worker} {said}")
