"""The addresses of the service, one module per subject."""

from __future__ import annotations

from retort_api.routes import (
    advice,
    artifacts,
    bulk,
    datasets,
    events,
    health,
    job_actions,
    job_list,
    jobs,
    models,
    pages,
    reviews,
    schemas,
    sweeps,
    tensorboard,
    trash,
    tus,
    uploads,
    usage,
    validation,
    workers,
)

ROUTERS = (
    jobs.router,
    job_list.router,
    bulk.router,
    validation.router,
    advice.router,
    job_actions.router,
    workers.router,
    usage.router,
    events.router,
    tensorboard.router,  # before the artifacts, whose names may be anything
    trash.router,  # before them too: what restores one ends its address
    artifacts.router,
    reviews.router,
    uploads.router,
    tus.router,
    datasets.router,
    models.router,
    sweeps.router,
    schemas.router,
    health.router,
    pages.router,
)
