"""The addresses of the service, one module per subject."""

from __future__ import annotations

from retort_api.routes import artifacts, follow, health, jobs, reference

ROUTERS = (jobs.router, follow.router, artifacts.router, reference.router, health.router)
