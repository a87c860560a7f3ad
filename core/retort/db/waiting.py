"""Say for what jobs wait, and their places in the queue."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from retort.db import quotas
from retort.db.models import JobRow, WorkerRow
from retort.db.workers import refused_gpus, running, takers, takes_on_cpu
from retort.states import ACTIVE, JobState

WaitReason = Literal["turn", "retry", "no_worker", "too_many_gpus", "no_gpu", "quota"]
MOST = 20_000
"""Jobs of the queue that are looked at; those behind them have no known place."""
_SAMPLE = 20
_FEWEST = 3
"""Jobs that must have ended before a start can be estimated from how long they took."""
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class QueueWait:
    """For what a queued job waits."""

    reason: WaitReason
    """``turn``: for a free worker; ``retry``: for the end of a pause after a failure; ``no_worker``: none runs;
    ``too_many_gpus``: none has as many GPUs as the job needs; ``no_gpu``: none has any, and no CPU may stand in;
    ``quota``: its project has as many on workers as it may."""
    position: int | None
    """Place in the queue, from 1, by the order in which jobs are claimed; None far behind."""
    until: float | None
    """End of the pause after a failure, in Unix seconds."""
    num_workers: int
    """Workers that run and take jobs."""
    most_gpus: int
    """Most GPUs that one of them has for one run."""
    refused: tuple[str, ...] = ()
    """GPUs of theirs that no run can have, with the reasons."""
    estimated_start_s: float | None = None
    """Seconds, in whole minutes, from what runs and how long the latest jobs took; None where that says nothing."""
    quota: str | None = None
    """Which quota holds it up, in words."""
    num_drained: int = 0
    """Workers that run, and take no more jobs because somebody wished so."""


@dataclass(frozen=True)
class QueueSnapshot:
    """The queue and the workers at one moment."""

    now: float
    workers: tuple[WorkerRow, ...]
    """Those that take jobs."""
    rows: Mapping[str, Any]
    """Queued jobs by id: priority, owner, project, gpus, require_gpu and claimable_at."""
    ahead: Mapping[str, int]
    """How many jobs are claimed before each, in that order."""
    rests_s: tuple[float, ...] = ()
    """For how long the runs under way are expected to take still."""
    run_s: float | None = None
    """How long the latest jobs ran; None where too few have."""
    refused: tuple[str, ...] = field(default=())
    held_up: Mapping[str, str] = field(default_factory=dict)
    """Projects none of whose jobs may begin, with the quotas that say so."""
    num_drained: int = 0

    def of(self, job_id: str) -> QueueWait | None:
        """Return for what the job waits; None where it was not in the queue."""
        row = self.rows.get(job_id)
        if row is None:
            return None
        ahead = self.ahead.get(job_id)
        until = row.claimable_at if row.claimable_at > self.now else None
        reason = self._reason(row, until)
        estimate = self._start(ahead) if reason == "turn" and ahead is not None else None
        most_gpus = max((worker.gpus for worker in self.workers), default=0)
        position = None if ahead is None else ahead + 1
        quota = self.held_up.get(row.project) if reason == "quota" else None
        return QueueWait(
            reason, position, until, len(self.workers), most_gpus, self.refused, estimate, quota, self.num_drained
        )  # fmt: skip

    def line(self, project: str | None, most: int) -> list[str]:
        """Return the first *most* jobs in the order of claims.

        In one *project*, if given.
        """
        wanted = (job_id for job_id in self.ahead if project is None or self.rows[job_id].project == project)
        return list(islice(wanted, most))

    def _reason(self, row: Any, until: float | None) -> WaitReason:
        if until is not None:
            return "retry"
        return unfit(row, self.workers) or ("quota" if row.project in self.held_up else "turn")

    def _start(self, ahead: int) -> float | None:
        """Deal the jobs ahead to the slots as these become free."""
        slots = sum(worker.slots for worker in self.workers)
        if self.run_s is None or not slots:
            return None
        free = [0.0] * max(0, slots - len(self.rests_s))
        ends = [*free, *sorted(self.rests_s)[:slots]]
        heapq.heapify(ends)
        for _ in range(ahead):
            heapq.heapreplace(ends, ends[0] + self.run_s)
        return -(-ends[0] // _MINUTE_S) * _MINUTE_S


def unfit(job: Any, workers: Sequence[WorkerRow]) -> WaitReason | None:
    """Return why none of *workers* would take the job, or None."""
    most_gpus = max((worker.gpus for worker in workers), default=0)
    if not workers:
        return "no_worker"
    if 0 < most_gpus < job.gpus:
        return "too_many_gpus"
    if not most_gpus and not any(takes_on_cpu(worker, job) for worker in workers):
        return "no_gpu"
    return None


def snapshot(session: Session, *, now: float, within_s: float) -> QueueSnapshot:
    """Return the queue as it stands; workers run that were seen within *within_s*."""
    seen = running(session, now=now, within_s=within_s)
    for worker in seen:
        session.expunge(worker)
    workers = takers(seen)
    columns = (
        JobRow.id, JobRow.priority, JobRow.owner, JobRow.project, JobRow.gpus, JobRow.require_gpu, JobRow.claimable_at,
    )  # fmt: skip
    waiting = select(*columns).where(JobRow.state == JobState.QUEUED).order_by(JobRow.priority.desc(), JobRow.id)
    rows = session.execute(waiting.limit(MOST + 1)).all()
    known = rows[:MOST]
    active = select(JobRow.owner, JobRow.eta_s, JobRow.claimed_at).where(JobRow.state.in_(ACTIVE))
    runs = session.execute(active).all()
    run_s, held_up = _usual(session), quotas.held_up(session, now=now)
    return QueueSnapshot(
        now=now, workers=workers, rows={row.id: row for row in rows},
        ahead=_ahead(known, [run.owner for run in runs], workers, now=now, held_up=held_up), held_up=held_up,
        rests_s=tuple(_rest(run, run_s, now) for run in runs), run_s=run_s,
        refused=tuple(refused_gpus(workers)), num_drained=len(seen) - len(workers),
    )  # fmt: skip


def _usual(session: Session) -> float | None:
    latest = select(JobRow.run_s).where(JobRow.state == JobState.SUCCEEDED).order_by(JobRow.id.desc()).limit(_SAMPLE)
    times = list(session.scalars(latest))
    return sum(times) / len(times) if len(times) >= _FEWEST else None


def _rest(run: Any, run_s: float | None, now: float) -> float:
    if run.eta_s is not None:
        return max(0.0, float(run.eta_s))
    return max(0.0, (run_s or 0.0) - (now - (run.claimed_at or now)))


def _ahead(
    rows: Iterable[Any],
    running_owners: Iterable[str],
    workers: Sequence[WorkerRow],
    *,
    now: float,
    held_up: Mapping[str, str],
) -> dict[str, int]:
    """Count the jobs that are claimed before each: by priority, then owners take turns, then age.

    An owner's next job counts as if its earlier ones were on workers already, as a claim deals them. Jobs that nobody
    can claim now are passed over.
    """
    active: dict[str, int] = defaultdict(int)
    for owner in running_owners:
        active[owner] += 1
    line: dict[tuple[int, str], int] = defaultdict(int)
    keyed = []
    for row in rows:
        place = (row.priority, row.owner)
        may = row.claimable_at <= now and unfit(row, workers) in {None, "no_worker"} and row.project not in held_up
        keyed.append(((-row.priority, active[row.owner] + line[place], row.id), may))
        line[place] += may
    ahead, passed = {}, 0
    for (_, _, job_id), may in sorted(keyed):
        ahead[job_id] = passed
        passed += may
    return ahead


def last_seen(session: Session) -> float | None:
    """Return when a worker was last seen; None where none is known."""
    return session.scalar(select(func.max(WorkerRow.seen_at)))
