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
    links,
    models,
    oversight,
    pages,
    predictions,
    reviews,
    schemas,
    sweeps,
    tensorboard,
    trash,
    tus,
    uploads,
    usage,
    validation,
    webhooks,
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
    predictions.router,
    tensorboard.router,  # before the artifacts, whose names may be anything
    trash.router,  # before them too: what restores one ends its address
    artifacts.router,
    links.router,
    reviews.router,
    uploads.router,
    tus.router,
    datasets.router,
    models.router,
    sweeps.router,
    webhooks.router,
    oversight.router,
    schemas.router,
    health.router,
    pages.router,
)
