"""Keep the queue as it stood a moment ago, for all who ask."""

from __future__ import annotations

import hashlib
import threading
import time

from retort.db import Database
from retort.db.models import JobRow
from retort.db.session import database_now
from retort.db.waiting import QueueSnapshot, QueueWait, snapshot
from retort.states import JobState

from retort_api import http
from retort_api.schemas.jobs import QueuePlace

_KEEP_S = 1.0
_SHARE = 20
"""A snapshot is kept for at least so many times as long as it took."""


class QueueView:
    """Snapshot of the queue, renewed when it is old and somebody asks."""

    def __init__(self, database: Database, *, within_s: float) -> None:
        self._database = database
        self._within_s = within_s
        self._lock = threading.Lock()
        self._snapshot: QueueSnapshot | None = None
        self._good_until = 0.0

    def of(self, job_id: str) -> QueueWait | None:
        """Return for what the job waits, or None."""
        found = self._current().of(job_id)
        return found if found is not None else self._current(renew=True).of(job_id)

    def forget(self) -> None:
        """Drop the snapshot, because the workers have changed."""
        with self._lock:
            self._good_until = 0.0

    def line(self, project: str | None, most: int) -> list[str]:
        """Return the ids of the queue's first jobs, in the order of claims."""
        return self._current().line(project, most)

    def _current(self, *, renew: bool = False) -> QueueSnapshot:
        with self._lock:
            began = time.monotonic()
            kept = self._snapshot
            if kept is not None and began < self._good_until - (_KEEP_S if renew else 0.0):
                return kept
            with self._database.read() as session:
                kept = snapshot(session, now=database_now(session), within_s=self._within_s)
            took_s = time.monotonic() - began
            self._snapshot, self._good_until = kept, began + _KEEP_S + _SHARE * took_s
            return kept

    def place(self, job: JobRow) -> QueuePlace | None:
        """Return the job's place as it is shown, or None.

        It is None where the job waits for nothing, or is not known yet.
        """
        if job.state in _RESTING:
            reason, message = _RESTING[job.state]
            return QueuePlace.model_validate(
                {**dict.fromkeys(QueuePlace.model_fields), "reason": reason, "message": message}
            )
        found = self.of(job.id) if job.state is JobState.QUEUED else None
        if found is None:
            return None
        ahead = None if found.position is None else found.position - 1
        return QueuePlace.model_validate({
            "reason": found.reason, "message": in_words(found, job), "position": found.position, "ahead": ahead,
            "until": found.until, "estimated_start_s": found.estimated_start_s,
        })  # fmt: skip

    def fresh_etag(self, job_id: str, version: int, state: JobState) -> str | None:
        """Return the entity tag of a job if no query is needed."""
        if state is not JobState.QUEUED:
            return http.strong(version)
        kept = self._snapshot
        found = kept.of(job_id) if kept is not None and time.monotonic() < self._good_until else None
        return None if found is None else _tag(version, found)

    def etag(self, job_id: str, version: int, state: JobState) -> str:
        """Return the entity tag of a job, which names its place too."""
        found = self.of(job_id) if state is JobState.QUEUED else None
        return http.strong(version) if found is None else _tag(version, found)


def _tag(version: int, found: QueueWait) -> str:
    return http.strong(f"{version}.{hash_of(found)}")


def hash_of(found: QueueWait) -> str:
    """Return a short name of what is shown of a place."""
    return hashlib.sha256(repr(found).encode()).hexdigest()[:10]


_RESTING = {
    JobState.PAUSED: ("paused", "it is paused: resume it"),
    JobState.AWAITING_REVIEW: ("review", "people have to look at its pseudo-labels"),
}


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


def in_words(found: QueueWait, job: JobRow) -> str:
    """Say for what the job waits."""
    if found.reason == "retry":
        return "a pause after a failure"
    if found.reason == "no_worker" and found.num_drained:
        return "every running worker is drained: let one take jobs again, on /workers, or start another"
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
    behind = f"place {found.position} in the queue, {found.num_workers} worker{'' if found.num_workers == 1 else 's'}"
    return found.quota or ("far behind in the queue" if found.position is None else behind)
