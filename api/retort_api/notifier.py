"""Notify workers of new jobs over Celery's broker, after the commit."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import structlog
from celery import Celery
from kombu import Queue
from retort.errors import TransientError
from retort.files import protect_sqlite

# The worker's application says the same; the two packages never import each other.
QUEUE = "retort"
TASK = "retort.run_job"

_REDIS: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1, "max_retries": 0}
_SQLITE: dict[str, Any] = {"connect_args": {"timeout": 5}, "max_retries": 0}
_WAITING = 1000
"""Rings that may wait for a slow broker."""
BURST = 16
WINDOW_S = 0.2
"""So many rings in so long wake everybody: a worker goes on until nothing can be claimed, so others are left out."""
_BURST_EMBEDDED = 2
"""The same for a database in the broker's place, whose few listeners look once a second."""
_LAST_RINGS_S = 2.0
"""How long closing waits for rings that are under way."""

_log = structlog.get_logger("retort.api")


class QueueNotifier:
    """Notifier of workers, in a background thread; requests never wait.

    A lost notification costs a worker's polling interval and nothing else: nothing is retried, nothing raises.
    """

    def __init__(self, broker_url: str) -> None:
        redis = broker_url.startswith(("redis", "valkey"))
        protect_sqlite(broker_url)
        self._celery = _producer(broker_url, redis=redis)
        self._burst = BURST if redis else _BURST_EMBEDDED
        self._rings: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._reached = True

    def notify(self, job_id: str) -> None:
        """Announce a committed job without waiting."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="notifier", daemon=True)
                self._thread.start()
        try:
            self._rings.put_nowait(job_id)
        except queue.Full:
            _log.warning("bell_not_rung", job_id=job_id, error="too many rings are waiting for the broker")

    def check(self) -> None:
        """Check that the broker can be reached.

        Raises:
            TransientError: it is not there.

        """
        try:
            with self._celery.connection_for_write() as connection:
                self._celery.amqp.queues[QUEUE](connection.default_channel).declare()
        except Exception as error:  # each transport has its own
            raise TransientError(f"the broker is not available: {_first_line(error)}") from error

    def close(self) -> None:
        """Send waiting notifications within two seconds, and disconnect."""
        if self._thread is not None:
            try:
                self._rings.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(_LAST_RINGS_S)
        self._celery.close()

    def _send_all(self) -> None:
        begun, sent = 0.0, 0
        while (job_id := self._rings.get()) is not None:
            if sent >= self._burst and (rest_s := begun + WINDOW_S - time.monotonic()) > 0:
                time.sleep(rest_s)
                while self._rings.qsize() > self._burst:
                    job_id = self._rings.get_nowait() or job_id
            if time.monotonic() - begun >= WINDOW_S:
                begun, sent = time.monotonic(), 0
            sent += 1
            try:
                self._celery.send_task(TASK, args=[job_id], ignore_result=True, retry=False)
            except Exception as error:  # noqa: BLE001 - each transport has its own
                self._note(reached=False, error=_first_line(error))
            else:
                self._note(reached=True)

    def _note(self, *, reached: bool, **why: str) -> None:
        """Log whether the broker is there, once for each change."""
        if reached is not self._reached:
            self._reached = reached
            if reached:
                _log.info("broker_reached_again")
            else:
                _log.warning("broker_not_reached", effect="jobs start by polling", **why)


def _producer(broker_url: str, *, redis: bool) -> Celery:
    app = Celery("retort", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        result_backend=None,
        task_default_queue=QUEUE,
        task_queues=[Queue(QUEUE)],
        task_publish_retry=False,
        broker_connection_retry=False,
        broker_connection_timeout=1,
        broker_transport_options=_REDIS if redis else _SQLITE if "sqlite" in broker_url else {"max_retries": 0},
    )
    return app


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
