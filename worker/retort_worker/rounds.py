"""Do work in a thread, again and again, with rests."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

_log = structlog.get_logger()


class Rounds:
    """Thread that works until nothing waits, rests, and looks again.

    Any number of workers may run such a thread at the same time.

    Args:
        name: of the thread, and of what has failed in the log.
        work: does the next piece; False where none waits.
        rest_s: pause until the next look.
        over: says that the worker drains, which ends the thread as ``stop`` does.

    """

    def __init__(
        self, name: str, work: Callable[[], bool], *, rest_s: float, over: Callable[[], bool] = lambda: False
    ) -> None:
        self._name = name
        self._work = work
        self._rest_s = rest_s
        self._drained = over
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread, which ends with the process, with its draining, or by ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the present piece of work."""
        self._stopped.set()

    def _ended(self) -> bool:
        return self._stopped.is_set() or self._drained()

    def _run(self) -> None:
        while not self._ended():
            try:
                while self._work() and not self._ended():
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look must come
                _log.warning(f"{self._name} failed", error=str(error))
            self._stopped.wait(self._rest_s)
