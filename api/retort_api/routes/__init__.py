"""The addresses of the service, one module per subject."""

from __future__ import annotations

from retort_api.routes import artifacts, control, follow, health, jobs, reference, sweeps

ROUTERS = (jobs.router, control.router, follow.router, artifacts.router, sweeps.router, reference.router, health.router)
