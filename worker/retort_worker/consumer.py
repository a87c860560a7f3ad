"""The Celery worker: listens for the bell, and turns signals into a drain."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Any

import structlog
from celery import Celery
from celery.apps.worker import Worker
from celery.worker import state

from retort_worker.slots import Slots

_log = structlog.get_logger()
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_RESTART_S = 5.0
_AWAKE_S = 0.1


class Signals:
    """The first signal drains, the second one quits hard; Celery's own handlers would wait for the training to end."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    def install(self) -> None:
        """Handle every signal that asks a process to end."""
        for number in _SIGNALS:
            signal.signal(number, self._quit if self._slots.draining else self._drain)

    def _drain(self, _number: int, _frame: FrameType | None) -> None:
        self._slots.drain()
        state.should_stop = 0
        self.install()

    def _quit(self, _number: int, _frame: FrameType | None) -> None:
        self._slots.kill()
        os._exit(1)


def consume(app: Celery, slots: Slots) -> None:
    """Listen until the worker drains; must be called in the main thread.

    Whatever ends Celery's consumer before that, it is started anew: the polls go on meanwhile.
    """
    signals = Signals(slots)
    signals.install()

    class Consumer(Worker):  # type: ignore[misc]
        """Celery's worker with our signal handlers, that listens again soon after a task has ended.

        While all its threads are busy it leaves bells to other workers, and Celery notices the end of a task only when
        something else wakes it, or after a second.
        """

        _awake: Any = None

        def install_platform_tweaks(self, _worker: Worker) -> None:
            signals.install()

        def on_consumer_ready(self, consumer: Any) -> None:
            super().on_consumer_ready(consumer)
            if self._awake is not None:
                self._awake.cancel()  # it listened before, over a connection that broke
            if consumer.hub is not None:
                self._awake = consumer.hub.call_repeatedly(_AWAKE_S, lambda: None)

    while not slots.draining:
        Consumer(
            app=app, quiet=True, loglevel="INFO", without_gossip=True, without_mingle=True, without_heartbeat=True
        ).start()
        if not slots.draining:
            _log.warning("the broker's consumer ended; it starts again", seconds=_RESTART_S)
            deadline = time.monotonic() + _RESTART_S
            while not slots.draining and time.monotonic() < deadline:
                time.sleep(0.1)
