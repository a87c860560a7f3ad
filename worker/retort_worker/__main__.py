"""Start the worker: ``python -m retort_worker``."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from collections.abc import Sequence
from ipaddress import ip_network
from uuid import uuid4

import structlog
from retort import logs
from retort.confinement import hide_environment
from retort.db import Database
from retort.db.clock import ClockWatch
from retort.db.quotas import default_limits
from retort.files import make_private
from retort.keeping import open_store
from retort.settings import Settings

from retort_worker import celery_app, confinement_check, gpu_check
from retort_worker.celery_app import consume
from retort_worker.context import RUN, WorkerContext
from retort_worker.dataset_intake import DatasetIntake
from retort_worker.loops import Announcer, Housekeeper, Poller, Reaper, Sweeper
from retort_worker.predictions import PredictionLoop
from retort_worker.url_fetches import UrlFetcher
from retort_worker.webhooks import Deliverer
from retort_worker.worker import JobWorker

_EXIT_S = 10.0
"""After the last run has ended, a wedged broker connection may hold up the exit for so long."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker until a signal; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m retort_worker", description=__doc__)
    parser.add_argument(
        "--run-command", nargs=argparse.REMAINDER, default=RUN, help="the program that trains (for tests)"
    )
    options = parser.parse_args(arguments)
    settings = Settings()
    hide_environment()
    logs.configure(as_json=settings.log_json)
    make_private(settings.home)
    database = Database(
        settings.database_url, limits=default_limits(settings), max_queue_s=settings.max_queue_s
    )  # fmt: skip
    host = socket.gethostname()
    context = WorkerContext(
        database=database,
        store=open_store(settings, database),
        settings=settings,
        worker=f"{host}:{os.getpid()}:{uuid4().hex[:8]}",
        host=host,
        command=tuple(options.run_command),
    )
    pool = gpu_check.find(settings)
    context.confinement = confinement_check.find(settings, pool.usable())
    slots = JobWorker(context, pool)
    return work(context, slots, Housekeeper(context, pool), Announcer(context, pool))


def work(context: WorkerContext, slots: JobWorker, housekeeper: Housekeeper, announcer: Announcer) -> int:
    """Run all loops and consume notifications until a signal drains the worker."""
    settings = context.settings
    poller = Poller(slots, poll_s=settings.poll_s)
    reaper = Reaper(context.database, slots, reap_s=settings.reap_s, clock=ClockWatch(settings.lease_s))
    deliverer = Deliverer(
        context.database, trusted=[ip_network(one) for one in settings.webhook_networks], look_s=settings.poll_s,
    )  # fmt: skip
    predicting = PredictionLoop(context)
    app = celery_app.build(settings, slots.num_slots)
    celery_app.register(app, slots)
    # The poll and the reaper stand on their own feet: they work while the broker cannot be reached.
    announcer.start()
    poller.start()
    reaper.start()
    deliverer.start()
    predicting.start()
    housekeeper.start()
    Sweeper(context.database, slots, look_s=settings.poll_s).start()
    DatasetIntake(context, look_s=settings.poll_s).start()
    UrlFetcher(context, look_s=settings.poll_s).start()
    threading.Thread(target=_leave, args=(poller, slots), name="leave", daemon=True).start()
    consume(app, slots)
    poller.join()
    slots.join(threading.TIMEOUT_MAX)
    reaper.stop()
    deliverer.stop()
    predicting.stop()
    announcer.stop()
    structlog.get_logger().info("worker stopped")
    return 0


def _leave(poller: Poller, slots: JobWorker) -> None:
    """End the process once it has drained, even where the broker's client hangs."""
    poller.join()
    slots.join(threading.TIMEOUT_MAX)
    threading.Event().wait(_EXIT_S)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
