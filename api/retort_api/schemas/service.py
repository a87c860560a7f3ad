"""The service itself: its presets and how it stands."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from retort_api.schemas.jobs import Confinement, ResponseModel


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
    duration_ms: float | None


class Readiness(ResponseModel):
    """Whether the service can take jobs."""

    status: Literal["ok", "degraded", "failed"]
    """`degraded` where only broker, workers or GPUs fail: jobs are taken, and start by polling, or when one can."""
    checks: dict[str, Check]
    oldest_queued_age_s: float | None
    """For information: a queue that only grows has no worker. Null when nothing waits."""


class Liveness(ResponseModel):
    """The process answers."""

    status: Literal["ok"]
    version: str | None


class WorkerDevice(ResponseModel):
    """A GPU of a worker, or its CPU where it has no GPU that can be used."""

    kind: Literal["gpu", "cpu"]
    name: str
    """Of a GPU as `CUDA_VISIBLE_DEVICES` names it: its number on the bus, or its UUID."""
    product: str | None
    memory_bytes: int | None
    compute_capability: str | None
    driver: str | None
    """Version of NVIDIA's driver."""
    refused: str | None
    """Why no run can have it, and what to do; null where runs get it."""


class Worker(ResponseModel):
    """A running worker, as it last announced itself."""

    name: str
    host: str
    slots: int
    """Runs that it supervises at a time."""
    busy: int
    """Jobs that it holds."""
    gpus: int
    """Most GPUs that it can give to one run; 0 where it trains on the CPU, or takes no job."""
    devices: Annotated[tuple[WorkerDevice, ...], BeforeValidator(lambda told: told or ())]
    """What it has to train on."""
    confinement: Confinement | None = None
    """How far it can confine runs; null of a worker from before it told that."""
    started_at: datetime
    seen_at: datetime
    drained_at: datetime | None = None
    """Since when it takes no more jobs because somebody wished so; null where it takes them."""


class Workers(ResponseModel):
    """All running workers."""

    data: tuple[Worker, ...]
