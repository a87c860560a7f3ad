"""The reaper: returns the jobs of workers that stopped renewing, and gives up those that waited for too long."""

from __future__ import annotations

import threading

import structlog
from retort.db import Database, clock, jobs
from retort.db.session import IDLE_TIMEOUT_S

from retort_worker.slots import Slots

_log = structlog.get_logger()
_PAGE = 100


class Reaper:
    """A thread that looks for leases that ran out every *reap_s*; any number of workers may do so at a time."""

    def __init__(self, database: Database, slots: Slots, *, reap_s: float) -> None:
        self._database = database
        self._slots = slots
        self._reap_s = reap_s
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin; it goes on while the worker drains, and ends with the process or ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present look."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                while self.reap() == _PAGE:
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look must come
                _log.warning("reaping failed", error=str(error))
            self._stopped.wait(self._reap_s)

    def reap(self) -> int:
        """Move one page of lost and one of expired jobs; return how many the longer one had."""
        with self._database.begin() as session:
            asleep = jobs.wake(session, idle_s=IDLE_TIMEOUT_S)
            now = clock.now(session)
            lost = jobs.reap(session, now=now, limit=_PAGE)
            expired = jobs.expire(session, now=now, limit=_PAGE)
        if asleep:
            _log.warning("transactions of sleeping clients ended", number=asleep)
        for job in lost:
            _log.warning("worker lost", job=job.job_id, state=str(job.state))
        for job in expired:
            _log.warning("waited too long", job=job.job_id)
        if lost:
            self._slots.wake()
        return max(len(lost), len(expired))
