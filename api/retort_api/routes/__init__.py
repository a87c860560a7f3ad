"""The addresses of the service, one module per subject."""

from __future__ import annotations

from retort_api.routes import artifacts, control, follow, health, jobs, reference, sweeps, tensorboard

ROUTERS = (
    jobs.router,
    control.router,
    follow.router,
    tensorboard.router,  # before the artifacts, whose names may be anything
    artifacts.router,
    sweeps.router,
    reference.router,
    health.router,
)
