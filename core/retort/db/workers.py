"""Record the running workers, and what they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session

from retort.db.models import JobRow, WorkerRow
from retort.db.session import NO_SYNC, add_or_replace
from retort.errors import UserError
from retort.states import ACTIVE

FORGET_S = 86_400.0
"""A worker that has not been seen for so long is no longer kept."""


class WorkerNotFound(UserError):
    """There is no such worker."""

    code = "worker_not_found"


def announce(session: Session, worker: WorkerRow) -> None:
    """Record that the worker runs, and what it can take.

    Those that are long gone are forgotten.
    """
    columns = {column.key: getattr(worker, column.key) for column in WorkerRow.__table__.columns}
    add_or_replace(session, WorkerRow, [columns], key=["name"], keep=["started_at", "drained_at"])
    forget(session, now=worker.seen_at)


def forget(session: Session, *, now: float) -> int:
    """Delete the workers that have not been seen for a day; return their number."""
    gone = delete(WorkerRow).where(WorkerRow.seen_at < now - FORGET_S)
    return int(session.execute(gone, execution_options=NO_SYNC).rowcount)  # type: ignore[attr-defined]


def leave(session: Session, name: str) -> None:
    """Record that the worker has ended; its row says since when."""
    gone = update(WorkerRow).where(WorkerRow.name == name).values(left_at=WorkerRow.seen_at)
    session.execute(gone, execution_options=NO_SYNC)


def running(session: Session, *, now: float, within_s: float) -> Sequence[WorkerRow]:
    """Return the workers seen within *within_s* seconds before *now*, by name."""
    seen = select(WorkerRow).where(_runs(now, within_s)).order_by(WorkerRow.name)
    return session.scalars(seen).all()


def _runs(now: float, within_s: float) -> Any:
    return and_(WorkerRow.seen_at >= now - within_s, WorkerRow.left_at.is_(None))


def drain(session: Session, name: str, *, at: float | None, now: float, within_s: float) -> WorkerRow:
    """Drain a running worker from *at* on; with None it takes jobs again.

    A drained worker takes no more jobs; what it trains goes on to its end.

    Raises:
        WorkerNotFound: no worker of that name runs.

    """
    row = session.scalar(select(WorkerRow).where(WorkerRow.name == name, _runs(now, within_s)).with_for_update())
    if row is None:
        raise WorkerNotFound(f"no worker {name!r} runs", hint="GET /v1/workers, or retort workers, names those that do")
    if at is None or row.drained_at is None:
        row.drained_at = at
    session.flush()
    return row


def is_drained(session: Session, name: str) -> bool:
    """Return True where the worker is to take no more jobs."""
    return session.scalar(select(WorkerRow.drained_at).where(WorkerRow.name == name)) is not None


def takers(workers: Iterable[WorkerRow]) -> tuple[WorkerRow, ...]:
    """Return those of *workers* that take jobs."""
    return tuple(worker for worker in workers if worker.drained_at is None)


def busy(session: Session) -> dict[str, int]:
    """Return the number of jobs that each worker holds, by its name."""
    held = select(JobRow.worker, func.count()).where(JobRow.state.in_(ACTIVE)).group_by(JobRow.worker)
    return {worker: number for worker, number in session.execute(held) if worker is not None}


def runs(session: Session) -> Sequence[JobRow]:
    """Return the jobs that workers hold, oldest first."""
    held = select(JobRow).where(JobRow.state.in_(ACTIVE), JobRow.worker.is_not(None)).order_by(JobRow.id)
    return session.scalars(held).all()


def gpus_elsewhere(session: Session, *, now: float, within_s: float) -> int:
    """Return the most GPUs that one worker has that takes jobs."""
    most = select(func.max(WorkerRow.gpus)).where(_runs(now, within_s), WorkerRow.drained_at.is_(None))
    return session.scalar(most) or 0


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


def takes_on_cpu(worker: WorkerRow, job: Any) -> bool:
    """Return True where a worker without a usable GPU would train *job*."""
    if worker.gpus or job.require_gpu:
        return False
    devices = worker.devices or [{"kind": "cpu", "refused": None}]  # of a worker from before it told them
    refusals = [device["refused"] for device in devices if device["kind"] == "cpu"]
    return any(refusal is None or job.require_gpu is False for refusal in refusals)
