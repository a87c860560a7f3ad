"""Define the Celery application: one queue, one task, its consumer."""

from __future__ import annotations

import logging
import os
import signal
import time
from types import FrameType
from typing import Any

import structlog
from celery import Celery
from celery.apps.worker import Worker
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import state
from celery.worker.consumer.connection import logger as connection_logger
from celery.worker.consumer.consumer import CONNECTION_ERROR, CONNECTION_RETRY
from celery.worker.consumer.consumer import logger as consumer_logger
from kombu import Queue
from retort.files import protect_sqlite
from retort.settings import Settings

from retort_worker.worker import JobWorker

QUEUE = "retort"
TASK = "retort.run_job"

_REDIS: dict[str, Any] = {
    # Without a socket timeout kombu waits for ever on a connection that went silent.
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "retry_on_timeout": True,
}
_SQLITE: dict[str, Any] = {"connect_args": {"timeout": 30}}


def build(settings: Settings, threads: int = 1) -> Celery:
    """Return the application of a worker with *threads*; nothing connects yet."""
    redis = settings.broker_url.startswith(("redis", "valkey"))
    protect_sqlite(settings.broker_url)
    app = Celery("retort", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        # JSON only: whoever can write to the broker must not be able to run code here.
        accept_content=["json"],
        task_serializer="json",
        # The database is the truth. An early acknowledgement makes a message what it is: one notification.
        task_acks_late=False,
        task_ignore_result=True,
        result_backend=None,
        task_default_queue=QUEUE,
        task_queues=[Queue(QUEUE)],
        worker_pool="threads",
        worker_concurrency=threads,
        worker_prefetch_multiplier=1,
        # Kombu knows how to stop fetching on Redis only, and warns elsewhere.
        worker_disable_prefetch=redis,
        # A blip of the broker must not end a training (https://github.com/celery/celery/issues/10096).
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=5,
        broker_transport_options=_REDIS if redis else _SQLITE if "sqlite" in settings.broker_url else {},
    )
    return app


def register(app: Celery, slots: JobWorker) -> None:
    """Add the task, which starts the next jobs in the free slots.

    The task stays until the runs of these jobs have ended. Which job was announced does not matter: a message says to
    look at the queue, and the queue says whose turn it is. A doubled, late or mistaken message does nothing. Without a
    free slot the job stays queued, and is found by a poll, here or on another worker.
    """

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:  # noqa: ARG001 - the name of the one who rang
        for supervision in slots.start():
            supervision.join()


class BrokerLog(logging.Filter):
    """Tell of a lost broker once, not at every try, and of its return."""

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass everything else; reword the first line of a loss and drop the rest."""
        if record.name == connection_logger.name and record.msg == _CONNECTED:
            self._reached()
            return True
        if any(word in record.getMessage() for word in _USELESS):
            return False
        arguments = record.args if isinstance(record.args, tuple) else ()
        if record.msg != CONNECTION_ERROR and CONNECTION_RETRY not in map(str, arguments):
            return True
        if self._told:
            return False
        self._told = True
        error = next((one for one in arguments if isinstance(one, Exception)), "no reason given")
        record.msg, record.args = "the broker cannot be reached, and jobs start by polling: %s", (error,)
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True

    def _reached(self) -> None:
        """Note that the broker is there, for the first time or again; log it when it was away."""
        if self._told:
            self._told = False
            _log.info("the broker is reached again")


_CONNECTED = "Connected to %s"
"""Celery's word for each connection: only of the first one it calls on_consumer_ready."""
_USELESS = ("Skipping prefetch count reduction", CPendingDeprecationWarning.__name__)
"""In what Celery tells at each loss of the broker, about which nobody can do anything."""
_log = structlog.get_logger()
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_RESTART_S = 5.0
_AWAKE_S = 0.1


class Signals:
    """Signal handlers: the first signal drains the worker, the second kills it.

    Celery's own handlers would wait for the training to end.
    """

    def __init__(self, slots: JobWorker) -> None:
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


def consume(app: Celery, slots: JobWorker) -> None:
    """Consume notifications until the worker drains; call in the main thread.

    Whatever ends Celery's consumer before that, it is started again: the polls go on meanwhile.
    """
    signals = Signals(slots)
    signals.install()
    broker_log = BrokerLog()
    for logger in (consumer_logger, connection_logger, logging.getLogger("py.warnings")):
        logger.addFilter(broker_log)

    class Consumer(Worker):  # type: ignore[misc]
        """Celery worker with our signal handlers, fast to listen after a task.

        While all its threads are busy it leaves messages to other workers, and Celery notices the end of a task only
        when something else wakes it, or after a second.
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
