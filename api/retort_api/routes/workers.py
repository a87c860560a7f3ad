"""Routes that show the running workers, and for what a job waits."""

from __future__ import annotations

from typing import Any

from retort.access import Scope
from retort.db import jobs, waiting, workers
from retort.db.session import database_now

from retort_api.deps import Caller, JobId, Router, Serving
from retort_api.errors import documented
from retort_api.queue_view import in_words
from retort_api.schemas.jobs import Waiting, row_fields
from retort_api.schemas.service import Worker, Workers

router = Router("jobs")


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
        shown = tuple(Worker.model_validate(row_fields(one, Worker, busy=held.get(one.name, 0))) for one in found)
        return Workers(data=shown)


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
            running = workers.running(session, now=now, within_s=service.settings.lease_s)
            most = max((worker.gpus for worker in running), default=0)
            return Waiting(
                reason=None, message=None, position=None, until=None, num_workers=len(running), most_gpus=most
            )
        return Waiting.model_validate({
            "reason": found.reason, "message": in_words(found, job), "position": found.position,
            "until": found.until, "num_workers": found.num_workers, "most_gpus": found.most_gpus,
        })  # fmt: skip
