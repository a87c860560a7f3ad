"""The slots of one worker: how many runs it supervises at a time, on which device each, and whether it drains."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence

import structlog

from retort_worker.devices import Device
from retort_worker.process import kill_all
from retort_worker.runner import Claimed, Supervision, Workshop

_log = structlog.get_logger()


class Slots:
    """Claims jobs into free slots and supervises each in its own thread.

    The bell and the poll both come here, so together they never run more than the worker's slots.
    """

    def __init__(self, workshop: Workshop, devices: Sequence[Device]) -> None:
        self._workshop = workshop
        self._free = deque(devices)
        # SimpleQueue.put may be called from a signal handler; an Event's lock may not.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    @property
    def num_free(self) -> int:
        """Slots that could take a job now; none while draining."""
        return 0 if self.draining else len(self._free)

    @property
    def draining(self) -> bool:
        """Whether the worker was told to stop."""
        return self._workshop.draining

    def start(self, job_id: str) -> threading.Thread | None:
        """Claim the job and supervise its run; None when there is no free slot or nothing to claim.

        Raises:
            Exception: the database's, when claiming failed.

        """
        if self.draining:
            return None
        try:
            device = self._free.popleft()
        except IndexError:
            return None
        try:
            claimed = self._workshop.claim(job_id, device)
        except BaseException:
            self._free.append(device)
            raise
        if claimed is None:
            self._free.append(device)
            return None
        thread = threading.Thread(target=self._supervise, args=(claimed, device), name=f"run-{job_id}", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()
        return thread

    def _supervise(self, claimed: Claimed, device: Device) -> None:
        try:
            Supervision(self._workshop, claimed, device).run()
        except Exception:  # noqa: BLE001 - writing nothing is safe: the lease runs out and a reaper returns the job
            _log.exception("supervision failed", job=claimed.lease.job_id, attempt=claimed.lease.attempt)
        finally:
            self._free.append(device)
            with self._lock:
                self._threads.discard(threading.current_thread())
            self.wake()

    def wake(self) -> None:
        """Make the poller look at once."""
        self._wakes.put(None)

    def wait(self, timeout_s: float) -> None:
        """Return when woken, or after *timeout_s*."""
        try:
            self._wakes.get(timeout=timeout_s)
            while True:
                self._wakes.get_nowait()
        except queue.Empty:
            return

    def drain(self) -> None:
        """Stop claiming at once and have every run stop; safe inside a signal handler."""
        self._workshop.drain()
        self.wake()

    def join(self, timeout_s: float) -> bool:
        """Wait until no run is supervised any more; False when *timeout_s* passed first."""
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
