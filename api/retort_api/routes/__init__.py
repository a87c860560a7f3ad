"""The addresses of the service, one module per subject."""

from __future__ import annotations

from retort_api.routes import advice, artifacts, control, follow, health, jobs, models, reference

ROUTERS = (
    jobs.router, advice.router, control.router, follow.router, artifacts.router, models.router, reference.router,
    health.router,
)  # fmt: skip
