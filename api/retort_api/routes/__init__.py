"""The addresses of the service, one module per subject."""

from __future__ import annotations

from retort_api.routes import artifacts, control, follow, health, jobs, reference, review

ROUTERS = (jobs.router, control.router, follow.router, artifacts.router, review.router, reference.router, health.router)
