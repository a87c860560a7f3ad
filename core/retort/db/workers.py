"""Record the running workers, and say for what a queued job waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.orm import Session

from retort.db.models import JobRow, WorkerRow
from retort.db.session import add_or_replace, table
from retort.states import JobState

_JOBS = table(JobRow).c
Reason = Literal["turn", "retry", "no_worker", "too_many_gpus", "no_gpu"]
FORGET_S = 86_400.0
"""A worker that has not been seen for so long is no longer kept."""


@dataclass(frozen=True, slots=True)
class QueueWait:
    """For what a queued job waits."""

    reason: Reason
    """``turn``: for a free worker; ``retry``: for the end of a pause after a failure; ``no_worker``: none runs;
    ``too_many_gpus``: none has as many GPUs as the job needs; ``no_gpu``: none has any, and no CPU may stand in."""
    position: int
    """Place in the queue, from 1: so many jobs of its priority or above are older, and itself."""
    until: float | None
    """End of the pause after a failure, in Unix seconds."""
    num_workers: int
    """Workers that run."""
    most_gpus: int
    """Most GPUs that one of them has for one run."""
    refused: tuple[str, ...] = ()
    """GPUs of theirs that no run can have, with the reasons."""


def announce(session: Session, worker: WorkerRow) -> None:
    """Record that the worker runs, and what it can take.

    Those that are long gone are forgotten.
    """
    columns = {column.key: getattr(worker, column.key) for column in WorkerRow.__table__.columns}
    add_or_replace(session, WorkerRow, [columns], key=["name"], keep=["started_at"])
    session.execute(delete(WorkerRow).where(WorkerRow.seen_at < worker.seen_at - FORGET_S))


def leave(session: Session, name: str) -> None:
    """Record that the worker has ended."""
    session.execute(delete(WorkerRow).where(WorkerRow.name == name))


def running(session: Session, *, now: float, within_s: float) -> Sequence[WorkerRow]:
    """Return the workers seen within *within_s* seconds before *now*, by name."""
    seen = select(WorkerRow).where(WorkerRow.seen_at >= now - within_s).order_by(WorkerRow.name)
    return session.scalars(seen).all()


def gpus_elsewhere(session: Session, *, now: float, within_s: float) -> int:
    """Return the most GPUs that one running worker has."""
    most = select(func.max(WorkerRow.gpus)).where(WorkerRow.seen_at >= now - within_s)
    return session.scalar(most) or 0


def waiting(session: Session, job: JobRow, *, now: float, within_s: float) -> QueueWait | None:
    """Return for what *job* waits; None where it is not queued."""
    if job.state != JobState.QUEUED:
        return None
    workers = running(session, now=now, within_s=within_s)
    most_gpus = max((worker.gpus for worker in workers), default=0)
    until = job.claimable_at if job.claimable_at > now else None
    reason: Reason = "turn"
    if until is not None:
        reason = "retry"
    elif not workers:
        reason = "no_worker"
    elif 0 < most_gpus < job.gpus:
        reason = "too_many_gpus"
    elif not most_gpus and not any(_takes_on_cpu(worker, job) for worker in workers):
        reason = "no_gpu"
    return QueueWait(reason, _position(session, job), until, len(workers), most_gpus, tuple(refused_gpus(workers)))


def refused_gpus(workers: Iterable[WorkerRow]) -> Iterator[str]:
    """Yield the GPUs of *workers* that no run can have, with the reasons."""
    for worker in workers:
        for device in worker.devices or ():
            if device["kind"] == "gpu" and device["refused"]:
                product = f" ({device['product']})" if device["product"] else ""
                yield f"GPU {device['name']}{product} of {worker.host}: {device['refused']}"


def takes_no_job(worker: WorkerRow) -> bool:
    """Return True for a worker without a usable GPU whose CPU is refused too."""
    devices = worker.devices or ()
    on_cpu = any(device["kind"] == "cpu" and not device["refused"] for device in devices)
    return bool(devices) and not worker.gpus and not on_cpu


def _takes_on_cpu(worker: WorkerRow, job: JobRow) -> bool:
    """Return True where a worker without a usable GPU would train *job*."""
    if worker.gpus or job.require_gpu:
        return False
    devices = worker.devices or [{"kind": "cpu", "refused": None}]  # of a worker from before it told them
    refusals = [device["refused"] for device in devices if device["kind"] == "cpu"]
    return any(refusal is None or job.require_gpu is False for refusal in refusals)


def _position(session: Session, job: JobRow) -> int:
    """Count the queued jobs that are claimed before *job*, as far as owners do not share the workers, and itself."""
    before = or_(_JOBS.priority > job.priority, and_(_JOBS.priority == job.priority, _JOBS.id <= job.id))
    # By the table, not the mapped class: the jobs of other projects stand before it as well.
    counted = select(func.count()).where(_JOBS.state == JobState.QUEUED, before)
    return session.scalar(counted) or 1
