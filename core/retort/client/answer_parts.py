"""Describe what is inside of answers; made by ``python -m retort_api client-types``.

They are plain dictionaries: what a newer service adds stays in them. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

AttemptState = Literal["running", "succeeded", "failed", "cancelled", "lost", "handed_back"]
ClientRole = Literal["reader", "submitter", "operator"]
DatasetState = Literal["uploading", "checking", "ready", "refused"]
JobState = Literal[
    "queued", "running", "pausing", "paused", "awaiting_review", "cancelling", "succeeded", "failed", "cancelled",
    "expired"
]  # fmt: skip
Role = Literal["teacher", "student", "control", "job"]
Scope = Literal[
    "jobs:read", "jobs:write", "data:read", "data:write", "models:read", "models:write", "service:read",
    "service:operate"
]  # fmt: skip
SweepState = Literal["running", "cancelling", "succeeded", "failed", "cancelled"]
TrialState = Literal["queued", "running", "succeeded", "failed", "pruned", "cancelled"]
UploadState = Literal["open", "complete", "failed"]
WebhookEvent = Literal[
    "job.started", "job.awaiting_review", "job.succeeded", "job.failed", "job.cancelled", "job.expired"
]  # fmt: skip


Best = TypedDict(
    "Best",
    {
    "role": Role,
    "epoch": int,
    "val/mAP50": float | None,
    "val/mAP50-95": float | None,
    },
)  # fmt: skip
"""The student's best epoch so far, by mAP50-95."""


class BestTrial(TypedDict):
    """The best trial that has succeeded."""

    number: int
    value: float
    parameters: dict[str, Any]
    job_id: str


class Box(TypedDict):
    """A labelled object: the name of its class, and its corners as shares of the image's sides."""

    name: str
    x1: float
    y1: float
    x2: float
    y2: float


class Check(TypedDict):
    """How one thing that the service needs stands."""

    status: Literal["ok", "failed"]
    detail: str | None
    duration_ms: float | None


class Confinement(TypedDict):
    """Which parts of the machine runs are kept from, and which of these could not be had."""

    mode: Literal["best", "strict", "off"]
    in_force: list[str]
    missing: dict[str, str]


class DatasetFinding(TypedDict):
    """One kind of mistake or doubt, and where it was seen."""

    severity: Literal["error", "warning"]
    code: str
    message: str
    hint: NotRequired[str]
    number: NotRequired[int]
    places: NotRequired[list[str]]


class DatasetSplit(TypedDict):
    """Counts of one split."""

    num_images: int
    num_backgrounds: int
    boxes: list[int]


class Estimate(TypedDict):
    """What recorded jobs of the same student, image size and data say about this one."""

    time: list[TimeEstimate]
    memory: MemoryEstimate | None
    currency: str | None
    source: str


class Failure(TypedDict):
    """Why work failed."""

    code: str
    message: str
    hint: str | None
    retryable: bool
    log_excerpt: str | None


class JobsOfOwner(TypedDict):
    """An owner's jobs outside of the trash."""

    project: str
    owner: str
    states: dict[str, int]


class MemoryEstimate(TypedDict):
    """What a training step would take of each GPU."""

    step_bytes: int
    num_jobs: int


class Point(TypedDict):
    """One value of a metric; null where it was not finite."""

    step: int
    value: float | None
    at: str


class PruneShare(TypedDict):
    """Number and bytes of one kind."""

    kind: str
    number: int
    size_bytes: int | None


class QueuePlace(TypedDict):
    """For what a job waits that no worker holds."""

    reason: Literal["turn", "retry", "no_worker", "too_many_gpus", "no_gpu", "quota", "paused", "review"]
    message: str
    position: int | None
    ahead: int | None
    until: str | None
    estimated_start_s: float | None


class Quota(TypedDict):
    """Most that a project may have; null is no limit."""

    queued_jobs: NotRequired[int | None]
    running_jobs: NotRequired[int | None]
    gpu_hours: NotRequired[float | None]
    stored_bytes: NotRequired[int | None]
    uploads: NotRequired[int | None]


class ReviewDecision(TypedDict):
    """What somebody has decided about an image."""

    decision: Literal["accept", "reject", "edit"]
    boxes: list[Box] | None
    reviewer: str
    at: str
    seen: bool


class Saved(TypedDict):
    """What lies in the store for others to go on from."""

    attempt: int
    stage: str
    epoch: int


class StoredBytes(TypedDict):
    """Bytes that an owner keeps of one kind."""

    project: str
    owner: str
    kind: str
    number: int
    size_bytes: int
    deleted_bytes: int


class TimeEstimate(TypedDict):
    """How long the job would run on one kind of device."""

    device: str
    seconds: float
    low: float
    high: float
    sure: Literal["alike", "scaled", "one"]
    num_jobs: int
    cost: float | None


class Transition(TypedDict):
    """One change of state or stage."""

    kind: Literal["state", "stage"]
    name: str
    at: str
    actor: str
    reason: str | None
    attempt: int


class Trial(TypedDict):
    """One point of a sweep, and what has come of it."""

    number: int
    state: TrialState
    parameters: dict[str, Any]
    value: float | None
    job_id: str | None
    progress: float | None
    reason: str | None
    begun_at: str
    ended_at: str | None


class UploadFailure(TypedDict):
    """Why a file could not be fetched."""

    code: str
    message: str
    hint: str | None


class UsedUp(TypedDict):
    """A quota that would refuse the job at this moment."""

    quota: str
    detail: str
    hint: str | None
    retry_after_s: int


class Worked(TypedDict):
    """Attempts of an owner's jobs that began in one month."""

    project: str
    owner: str
    month: str
    jobs: int
    attempts: int
    run_s: float
    gpu_s: float


class WorkerDevice(TypedDict):
    """A GPU of a worker, or its CPU where it has no GPU that can be used."""

    kind: Literal["gpu", "cpu"]
    name: str
    product: str | None
    memory_bytes: int | None
    compute_capability: str | None
    driver: str | None
    refused: str | None


class PredictedBox(Box):
    """One detection; sides are shares of the image's width and height."""

    score: float


class Scored(Box):
    """A box that a network has found."""

    score: float
