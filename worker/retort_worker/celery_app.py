"""The Celery application: one queue, one task, and settings under which losing a message costs a poll, not a job."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Queue
from retort.settings import Settings

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


def build(settings: Settings) -> Celery:
    """Return the application of a worker with ``settings.slots`` threads; nothing connects yet."""
    redis = settings.broker_url.startswith(("redis", "valkey"))
    app = Celery("retort", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        # JSON only: whoever can write to the broker must not be able to run code here.
        accept_content=["json"],
        task_serializer="json",
        # The database is the truth. An early acknowledgement makes a message what it is: a bell that rang once.
        task_acks_late=False,
        task_ignore_result=True,
        result_backend=None,
        task_default_queue=QUEUE,
        task_queues=[Queue(QUEUE)],
        worker_pool="threads",
        worker_concurrency=settings.slots,
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
