"""The one Celery task: a bell that says which job to look at."""

from __future__ import annotations

from celery import Celery

from retort_worker.celery_app import TASK
from retort_worker.slots import Slots


def register(app: Celery, slots: Slots) -> None:
    """Add the task to *app*: it starts the job in a free slot and stays until the run has ended.

    A doubled, late or mistaken ring does nothing: claiming matches no row. Without a free slot the job stays queued,
    and is found by a poll, here or on another worker.
    """

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:
        supervision = slots.start(str(job_id))
        if supervision is not None:
            supervision.join()
