"""The poll: finds queued jobs that no bell rang for, so that no broker setting can lose one."""

from __future__ import annotations

import threading

import structlog

from retort_worker.slots import Slots

_log = structlog.get_logger()


class Poller:
    """A thread that looks for claimable jobs every *poll_s*, and at once when a slot becomes free."""

    def __init__(self, slots: Slots, *, poll_s: float) -> None:
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
        """Start runs until there is no free slot or nothing to claim; return how many."""
        started = 0
        while begun := self._slots.start():
            started += len(begun)
        return started
