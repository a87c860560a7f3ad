"""The addresses of the service, one module per subject."""

from __future__ import annotations

from retort_api.routes import (
    advice,
    artifacts,
    control,
    follow,
    health,
    jobs,
    models,
    pages,
    reference,
    review,
    sweeps,
    tensorboard,
)

ROUTERS = (
    jobs.router,
    advice.router,
    control.router,
    follow.router,
    tensorboard.router,  # before the artifacts, whose names may be anything
    artifacts.router,
    review.router,
    models.router,
    sweeps.router,
    reference.router,
    health.router,
    pages.router,
)
