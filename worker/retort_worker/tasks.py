"""The one Celery task: a bell that says to look at the queue."""

from __future__ import annotations

from celery import Celery

from retort_worker.celery_app import TASK
from retort_worker.slots import Slots


def register(app: Celery, slots: Slots) -> None:
    """Add the task to *app*: it starts the jobs that are next in the free slots and stays until their runs have ended.

    Which job was announced does not matter: a bell says that the queue is worth a look, and the queue says whose turn
    it is. A doubled, late or mistaken ring does nothing. Without a free slot the job stays queued, and is found by a
    poll, here or on another worker.
    """

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:  # noqa: ARG001 - the name of the one who rang
        for supervision in slots.start():
            supervision.join()
