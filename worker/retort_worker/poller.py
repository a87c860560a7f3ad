"""The poll: finds queued jobs that no bell rang for, so that no broker setting can lose one."""

from __future__ import annotations

import threading

import structlog
from retort.db import Database, jobs

from retort_worker.slots import Slots

_log = structlog.get_logger()


class Poller:
    """A thread that looks for claimable jobs every *poll_s*, and at once when a slot becomes free."""

    def __init__(self, database: Database, slots: Slots, *, poll_s: float) -> None:
        self._database = database
        self._slots = slots
        self._poll_s = poll_s
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Begin; it ends by itself when the worker drains."""
        self._thread.start()

    def join(self) -> None:
        """Return when the worker drains and no more jobs are claimed here."""
        self._thread.join()

    def _run(self) -> None:
        while not self._slots.draining:
            try:
                self.poll()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next poll must come
                _log.warning("poll failed", error=str(error))
            self._slots.wait(self._poll_s)
        _log.info("draining: no more jobs are claimed here")

    def poll(self) -> int:
        """Start as many queued jobs as there are free slots, oldest first; return how many."""
        free = self._slots.num_free
        if not free:
            return 0
        with self._database.read() as session:
            waiting = jobs.claimable(session, limit=free)
        return sum(self._slots.start(job_id) is not None for job_id in waiting)
