"""Define the events of a run's journal, one JSON line each."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from retort.constants import Role
from retort.schema import FrozenModel
from retort.spec.result import AnyResult


class RunFailure(FrozenModel):
    """Reason of a failure: a stable code, a sentence and a hint.

    The sentence is for people; the hint says what to change.
    """

    code: str
    message: str
    hint: str | None = None
    retryable: bool = False
    log_excerpt: str | None = None


class BaseEvent(FrozenModel):
    """Fields common to all events."""

    n: int = Field(ge=1)
    """Number of the line in its journal, without gaps."""
    at: float
    """Unix time in seconds on the run's host."""


class StageEvent(BaseEvent):
    """A stage began."""

    type: Literal["stage"] = "stage"
    stage: str


class ProgressEvent(BaseEvent):
    """Progress of the whole run."""

    type: Literal["progress"] = "progress"
    progress: float = Field(ge=0, le=1)
    eta_s: float | None = None


class MetricEvent(BaseEvent):
    """Metric values of one role at one step.

    A value that is not finite is null.
    """

    type: Literal["metric"] = "metric"
    role: Role
    step: int
    """Epoch, counted from 1; 0 is before training."""
    values: dict[str, float | None]


class CheckpointEvent(BaseEvent):
    """A student checkpoint is complete at *path*, relative to the workdir."""

    type: Literal["checkpoint"] = "checkpoint"
    role: Role
    epoch: int
    path: str
    metrics: dict[str, float | None] = Field(default_factory=dict)


class ArtifactEvent(BaseEvent):
    """A file to publish is complete at *path*, relative to the workdir."""

    type: Literal["artifact"] = "artifact"
    name: str
    role: Role
    path: str
    media_type: str = "application/octet-stream"
    metadata: dict[str, Any] = Field(default_factory=dict)


class SavedEvent(BaseEvent):
    """Training state was saved; *files* are complete and immutable."""

    type: Literal["saved"] = "saved"
    stage: str
    epoch: int
    """Whole epochs of the stage that are done; 0 where the stage is finished, or does not train."""
    files: tuple[str, ...]
    """Relative to the workdir."""
    last: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
    """Those that are kept once the job has succeeded, so that it can be extended."""


class LogEvent(BaseEvent):
    """Log message that a person may want to know."""

    type: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class HealthEvent(BaseEvent):
    """The verdict of one distillation health rule has changed."""

    type: Literal["health"] = "health"
    rule: str
    verdict: Literal["healthy", "warning", "critical"]
    epoch: int
    """Counted from 1; 0 is before training."""
    message: str
    """What was measured."""
    cause: str
    """What such a measurement usually comes from."""
    advice: str
    """What to change."""
    values: dict[str, float | None] = Field(default_factory=dict)


class FinishedEvent(BaseEvent):
    """The run is complete; nothing follows."""

    type: Literal["finished"] = "finished"
    result: AnyResult


class FailedEvent(BaseEvent):
    """The run failed; nothing follows."""

    type: Literal["failed"] = "failed"
    failure: RunFailure


class StoppedEvent(BaseEvent):
    """The run stopped on request; nothing follows."""

    type: Literal["stopped"] = "stopped"


class AwaitingReviewEvent(BaseEvent):
    """The run waits for its review; last event of the journal."""

    type: Literal["awaiting_review"] = "awaiting_review"
    num_images: int
    """Images that wait to be looked at."""


AnyEvent = Annotated[
    StageEvent | ProgressEvent | MetricEvent | CheckpointEvent | ArtifactEvent | SavedEvent
    | LogEvent | HealthEvent | FinishedEvent | FailedEvent | StoppedEvent | AwaitingReviewEvent,
    Field(discriminator="type"),
]  # fmt: skip

EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
"""Reads journal lines: ``validate_json`` raises pydantic.ValidationError for what is not an event."""
