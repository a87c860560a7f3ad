"""Describe the calls about the service itself."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from retort.client.answers import AuditEntry, Liveness, QuotaUse, Readiness, Recipe, Worker
from retort.client.calls import Call, Json, given
from retort.client.operations import call


class ServiceCalls:
    """Calls about the service, its workers and what projects may have."""

    @call
    def workers(self) -> Call[tuple[Worker, ...]]:
        """Return the workers that run."""
        return Call("GET", "/v1/workers", reading="data")

    @call
    def drain_worker(self, name: str) -> Call[Worker]:
        """Let a worker take no more jobs, and end what it trains."""
        return Call("POST", f"/v1/workers/{quote(name, safe='')}/drain")

    @call
    def resume_worker(self, name: str) -> Call[Worker]:
        """Let a drained worker take jobs again."""
        return Call("POST", f"/v1/workers/{quote(name, safe='')}/resume")

    @call
    def audit(self, /, **filters: Any) -> Call[tuple[AuditEntry, ...]]:
        """Return who changed what, the latest first; for operators.

        *filters* are ``project``, ``owner``, ``action``, ``before`` and ``limit``.
        """
        return Call("GET", "/v1/audit", {"params": given(**filters)}, "data")

    @call
    def quota(self, project: str) -> Call[QuotaUse]:
        """Return how much a project may have, and what it has used of it."""
        return Call("GET", f"/v1/projects/{project}/quota")

    @call
    def set_quota(self, /, project: str, **limits: float) -> Call[QuotaUse]:
        """Set the quota of a project; limits left out are as in the settings."""
        return Call("PUT", f"/v1/projects/{project}/quota", {"json": limits})

    @call
    def recipes(self) -> Call[tuple[Recipe, ...]]:
        """Return the recipes that specs can name."""
        return Call("GET", "/v1/recipes", reading="data")

    @call
    def spec_schema(self, *, task: str | None = None) -> Call[Json]:
        """Return the JSON Schema of a spec."""
        return Call("GET", "/v1/schema", {"params": given(task=task)})

    @call
    def sweep_schema(self) -> Call[Json]:
        """Return the JSON Schema of a sweep."""
        return Call("GET", "/v1/schema/sweep")

    @call
    def alive(self) -> Call[Liveness]:
        """Return that the service answers."""
        return Call("GET", "/livez")

    @call
    def ready(self) -> Call[Readiness]:
        """Return how the things stand that the service needs.

        Raises:
            ClientError: one of them fails.

        """
        return Call("GET", "/readyz")

    @call
    def prometheus_metrics(self) -> Call[str]:
        """Return what Prometheus scrapes."""
        return Call("GET", "/metrics", reading="text")
