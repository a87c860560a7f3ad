"""The service itself: its presets and how it stands."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from retort_api.schemas.jobs import ResponseModel


class Recipe(ResponseModel):
    """A named preset of the distillation section."""

    name: str
    summary: str
    losses: tuple[dict[str, Any], ...]
    balance: str
    schedule: dict[str, Any]
    head_lr_multiplier: float


class Recipes(ResponseModel):
    """All presets."""

    data: tuple[Recipe, ...]


class Check(ResponseModel):
    """How one thing that the service needs stands."""

    status: Literal["ok", "failed"]
    detail: str | None
    duration_ms: float


class Readiness(ResponseModel):
    """Whether the service can take jobs."""

    status: Literal["ok", "degraded", "failed"]
    """`degraded` where only the broker fails: jobs are taken, and start by polling."""
    checks: dict[str, Check]
    oldest_queued_age_s: float | None
    """For information: a queue that only grows has no worker. Null when nothing waits."""


class Liveness(ResponseModel):
    """The process answers."""

    status: Literal["ok"]
    version: str


class Worker(ResponseModel):
    """A running worker, as it last announced itself."""

    name: str
    host: str
    slots: int
    """Runs that it supervises at a time."""
    gpus: int
    """GPUs that it can give to runs; 0 where it trains on the CPU."""
    started_at: datetime
    seen_at: datetime


class Workers(ResponseModel):
    """All running workers."""

    data: tuple[Worker, ...]
