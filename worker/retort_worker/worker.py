"""Claim jobs into a worker's slots, supervise them, drain."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

import structlog
from retort.db.queue import ClaimableJob

from retort_worker import gpus
from retort_worker.context import ClaimedJob, WorkerContext
from retort_worker.gpus import Device, DevicePool
from retort_worker.process import kill_all
from retort_worker.supervisor import RunSupervisor

_log = structlog.get_logger()
_TRIES = 10
"""How often the queue is looked at anew when other workers were faster each time."""
_CLEAN_S = 30.0
"""A driver may take so long to free what a run held."""


class JobWorker:
    """Worker that claims jobs into free slots, with a thread for each.

    Notifications and the poll both come here, so they never run more than the worker's slots.
    """

    def __init__(self, context: WorkerContext, pool: DevicePool) -> None:
        self._context = context
        self._pool = pool
        # SimpleQueue.put may be called from a signal handler; an Event's lock may not.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._claiming = threading.Lock()
        self._full = False

    @property
    def num_slots(self) -> int:
        """Runs that are supervised at a time."""
        return self._pool.num_slots

    @property
    def draining(self) -> bool:
        """Whether the worker drains."""
        return self._context.draining

    def start(self) -> list[threading.Thread]:
        """Claim the next jobs for the free slots and supervise them.

        Nothing comes back when there is no room, or nothing to claim.

        Raises:
            Exception: the database's, when claiming failed.

        """
        with self._claiming:
            begun = [self._begin(claimed_job) for claimed_job in self._claim()]
            return [thread for thread in begun if thread is not None]

    def _begin(self, claimed_job: ClaimedJob) -> threading.Thread | None:
        job_id = claimed_job.claim.lease.job_id
        thread = threading.Thread(target=self._supervise, args=(claimed_job,), name=f"run-{job_id}", daemon=True)
        with self._lock:
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:  # the machine has no room for a thread: the lease runs out, and the job comes back
                _log.exception("supervision did not begin", job=job_id)
                self._threads.discard(thread)
                self._pool.give_back(claimed_job.device)
                return None
        return thread

    def _claim(self) -> list[ClaimedJob]:
        for _ in range(_TRIES):
            room = self._pool.num_free
            if self.draining or not room or not self._has_room():
                break
            pool = self._pool
            wanted = self._with_room(self._context.waiting(pool.most_gpus, room, cpu_allowed=pool.cpu_allowed))
            if not wanted:
                break
            claimed_job = self._try(wanted)
            if claimed_job:
                return claimed_job
        return []

    def _has_room(self) -> bool:
        """Return True while the disk has room for a run; say once that it has none."""
        found = self._context.has_room()
        if not found and not self._full:
            _log.error("no more jobs are claimed: the disk is too full", folder=str(self._context.folder))
        self._full = not found
        return found

    def _with_room(self, waiting: Sequence[ClaimableJob]) -> dict[str, Device]:
        """Take devices for the jobs that are next, until one has to wait for its GPUs: nobody overtakes it here."""
        wanted: dict[str, Device] = {}
        for job in waiting:
            device = self._pool.take(job.gpus)
            if device is None:
                break
            wanted[job.job_id] = device
        return wanted

    def _try(self, wanted: dict[str, Device]) -> list[ClaimedJob]:
        claimed_job: list[ClaimedJob] = []
        try:
            claimed_job = self._context.claim(wanted)
        finally:
            taken = {one.claim.lease.job_id for one in claimed_job}
            for job_id, device in wanted.items():
                if job_id not in taken:
                    self._pool.give_back(device)
        return claimed_job

    def _supervise(self, claimed_job: ClaimedJob) -> None:
        unclean: Sequence[str] = claimed_job.device.gpus
        try:
            unclean = self._run(claimed_job)
        except Exception:  # noqa: BLE001 - a driver that cannot be asked says nothing of its GPUs: they are looked at later
            _log.exception("a run's GPUs were not looked at", job=claimed_job.claim.lease.job_id)
        finally:
            self._pool.give_back(claimed_job.device, unclean=unclean)
            with self._lock:
                self._threads.discard(threading.current_thread())
            self.wake()

    def _run(self, claimed_job: ClaimedJob) -> list[str]:
        """Supervise the run; return those of its GPUs that are not clean after it."""
        lease = claimed_job.claim.lease
        before = gpus.gpu_usage(claimed_job.device.gpus)
        supervisor = RunSupervisor(self._context, claimed_job)
        try:
            supervisor.run()
        except Exception:  # noqa: BLE001 - writing nothing is safe: the lease runs out and a reaper returns the job
            _log.exception("supervision failed", job=lease.job_id, attempt=lease.attempt)
        for gpu, why in supervisor.unusable.items():
            _log.error("GPU cannot be used, and gets no more runs", gpu=gpu, reason=why, job=lease.job_id)
            self._pool.refuse(gpu, why)
        unclean = gpus.dirty_gpus(before, patience_s=_CLEAN_S)
        if unclean:
            _log.error("GPU not clean after a run: quarantined", gpus=unclean, job=lease.job_id)
        return unclean

    def wake(self) -> None:
        """Make the poller look for jobs at once."""
        self._wakes.put(None)

    def wait(self, timeout_s: float) -> None:
        """Wait until woken, at most *timeout_s* seconds."""
        try:
            self._wakes.get(timeout=timeout_s)
            while True:
                self._wakes.get_nowait()
        except queue.Empty:
            return

    def drain(self) -> None:
        """Stop claiming at once, and stop every run; safe in signal handlers."""
        self._context.drain()
        self.wake()

    def join(self, timeout_s: float) -> bool:
        """Wait until no run is supervised; False after *timeout_s*."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            threads = tuple(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    @staticmethod
    def kill() -> None:
        """SIGKILL every run; safe inside a signal handler."""
        kill_all()
