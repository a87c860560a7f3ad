"""Routes that show the running workers, and for what a job waits."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from retort.access import Principal, Scope
from retort.db import jobs, waiting, workers
from retort.db.models import WorkerRow
from retort.db.session import database_now

from retort_api.deps import AppState, Caller, JobId, Router, Serving
from retort_api.errors import documented
from retort_api.queue_view import in_words
from retort_api.schemas.jobs import Waiting, row_fields
from retort_api.schemas.service import Worker, Workers

router = Router("jobs")

WorkerName = Annotated[str, Path(description="As the list of workers names it.", pattern=r"^[!-~]{1,255}$")]
_CHANGING = ("worker_not_found", "bad_parameter", "database_unavailable")


@router.readable(
    "/v1/workers",
    scope=Scope.SERVICE_READ,
    response_model=Workers,
    responses=documented("bad_parameter", "database_unavailable"),
)
def list_workers(service: Serving, caller: Caller) -> Workers:
    """List the workers that run, by name."""
    with service.read(caller) as session:
        found = workers.running(session, now=database_now(session), within_s=service.settings.lease_s)
        held = workers.busy(session)
        return Workers(data=tuple(_shown(one, held) for one in found))


def _shown(row: WorkerRow, held: dict[str, int]) -> Worker:
    return Worker.model_validate(row_fields(row, Worker, busy=held.get(row.name, 0)))


@router.post(
    "/v1/workers/{worker}/drain",
    scope=Scope.SERVICE_OPERATE,
    response_model=Worker,
    responses=documented(*_CHANGING),
)
def drain_worker(service: Serving, caller: Caller, worker: WorkerName) -> Worker:
    """Let a worker take no more jobs; what it trains goes on to its end. Again is harmless.

    It holds for this process of the worker: one that is started anew takes jobs.
    """
    return set_drained(service, caller, worker, drained=True)


@router.post(
    "/v1/workers/{worker}/resume",
    scope=Scope.SERVICE_OPERATE,
    response_model=Worker,
    responses=documented(*_CHANGING),
)
def resume_worker(service: Serving, caller: Caller, worker: WorkerName) -> Worker:
    """Let a drained worker take jobs again. Again is harmless."""
    return set_drained(service, caller, worker, drained=False)


def set_drained(service: AppState, caller: Principal, name: str, *, drained: bool) -> Worker:
    """Let a running worker take no more jobs, or take them again."""
    with service.begin(caller) as session:
        now = database_now(session)
        row = workers.drain(
            session, name, at=now if drained else None, now=now, within_s=service.settings.lease_s
        )  # fmt: skip
        shown = _shown(row, workers.busy(session))
    service.queue.forget()
    return shown


@router.readable(
    "/v1/jobs/{job_id}/waiting",
    scope=Scope.JOBS_READ,
    response_model=Waiting,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
def get_waiting(service: Serving, caller: Caller, job_id: JobId) -> Any:
    """Say for what a queued job waits: its place in the queue, a pause after a failure, or a worker that fits."""
    with service.read(caller) as session:
        job, now = jobs.get(session, job_id), database_now(session)
    with service.database.read() as session:  # of every project: their jobs stand in the same queue
        found = waiting.snapshot(session, now=now, within_s=service.settings.lease_s).of(job_id)
        if found is None:
            running = workers.takers(workers.running(session, now=now, within_s=service.settings.lease_s))
            most = max((worker.gpus for worker in running), default=0)
            return Waiting(
                reason=None, message=None, position=None, until=None, num_workers=len(running), most_gpus=most
            )
        return Waiting.model_validate({
            "reason": found.reason, "message": in_words(found, job), "position": found.position,
            "until": found.until, "num_workers": found.num_workers, "most_gpus": found.most_gpus,
        })  # fmt: skip
