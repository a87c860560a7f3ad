"""Routes that show the running workers, and for what a job waits."""

from __future__ import annotations

from typing import Any

from retort.access import Scope
from retort.db import jobs, workers
from retort.db.models import JobRow
from retort.db.session import database_now
from retort.db.workers import QueueWait

from retort_api.deps import Caller, JobId, Router, Serving
from retort_api.errors import documented
from retort_api.schemas.jobs import Waiting
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
        return Workers(data=tuple(Worker.model_validate(worker) for worker in found))


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
        found = workers.waiting(session, job, now=now, within_s=service.settings.lease_s)
        if found is None:
            running = workers.running(session, now=now, within_s=service.settings.lease_s)
            most = max((worker.gpus for worker in running), default=0)
            return Waiting(
                reason=None, message=None, position=None, until=None, num_workers=len(running), most_gpus=most
            )
        return Waiting.model_validate({
            "reason": found.reason, "message": _message(found, job), "position": found.position,
            "until": found.until, "num_workers": found.num_workers, "most_gpus": found.most_gpus,
        })  # fmt: skip


def _with_reasons(message: str, refused: tuple[str, ...]) -> str:
    """Add why GPUs that are there cannot be used; the list of workers has all of them."""
    more = f" (and {len(refused) - _TOLD} more)" if len(refused) > _TOLD else ""
    return "; ".join((message, *refused[:_TOLD])) + more


_TOLD = 3


def _no_gpu(job: JobRow) -> str:
    none = "no running worker has a GPU that can be used: start one that has"
    if job.require_gpu:
        return f"it requires a GPU (resources.require_gpu), and {none}, or submit it without"
    spec = "by resources.require_gpu: false in the spec, or " if "require_gpu" in job.spec["resources"] else ""
    return f"{none}, or allow a CPU, {spec}by RETORT_CPU_FALLBACK=true for the worker"


def _message(found: QueueWait, job: JobRow) -> str:
    if found.reason == "retry":
        return "a pause after a failure"
    if found.reason == "no_worker":
        return "no worker is running: start one, retort up or the worker's container"
    if found.reason == "too_many_gpus":
        wants = (
            f"it asks for {job.gpus} GPUs (resources.gpus), and no running worker has more than {found.most_gpus} for "
            "one job: start a larger worker, or submit it with fewer"
        )
        return _with_reasons(wants, found.refused)
    if found.reason == "no_gpu":
        return _with_reasons(_no_gpu(job), found.refused)
    return f"place {found.position} in the queue, {found.num_workers} workers"
