"""Describe the answers of the service; made by ``python -m retort_api client-types``.

They are plain dictionaries: what a newer service adds stays in them. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from retort.client.answer_parts import (
    AttemptState,
    Best,
    BestTrial,
    Check,
    ClientRole,
    Confinement,
    DatasetFinding,
    DatasetSplit,
    DatasetState,
    Estimate,
    Failure,
    JobsOfOwner,
    JobState,
    Point,
    PredictedBox,
    PruneShare,
    QueuePlace,
    Quota,
    ReviewDecision,
    Saved,
    Scope,
    Scored,
    StoredBytes,
    SweepState,
    Transition,
    Trial,
    UploadFailure,
    UploadState,
    UsedUp,
    WebhookEvent,
    Worked,
    WorkerDevice,
)


class Artifact(TypedDict):
    """A published file."""

    id: str
    name: str
    role: str
    size_bytes: int
    sha256: str
    media_type: str
    metadata: dict[str, Any]
    created_at: str
    deleted_at: str | None
    links: dict[str, Any]


class Attempt(TypedDict):
    """One try on one worker."""

    number: int
    worker: str
    host: str
    device: str | None
    state: AttemptState
    started_at: str
    ended_at: str | None
    exit_code: int | None
    failure: Failure | None
    confinement: NotRequired[Confinement | None]


class AuditEntry(TypedDict):
    """One change that somebody made, or was refused."""

    id: int
    at: str
    project: str
    owner: str
    key_id: str
    action: str
    target: str
    address: str
    request_id: str
    outcome: str


class BulkOutcome(TypedDict):
    """What became of one job."""

    id: str
    done: bool
    state: JobState | None
    new_id: str | None
    code: str | None
    detail: str | None


class Caller(TypedDict):
    """Who a request comes from."""

    owner: str
    project: str
    role: ClientRole
    scopes: list[Scope]
    key_id: str


class Delivery(TypedDict):
    """One event for a webhook, and what became of it."""

    id: str
    event: str
    job_id: str | None
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    next_at: str | None
    status: int | None
    error: str | None
    duration_ms: float | None
    created_at: str
    ended_at: str | None
    payload: dict[str, Any]


class DeviceLogin(TypedDict):
    """A login that a person approves in any browser (RFC 8628)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_in_s: float
    interval_s: float


class DeviceWaiting(TypedDict):
    """Nobody has decided yet."""

    state: Literal["pending", "slow_down"]


class DownloadUrl(TypedDict):
    """An address at which whoever has it can read one file, until it expires."""

    url: str
    expires_at: str
    sha256: str
    size_bytes: int


class Event(TypedDict):
    """One thing that happened to a job."""

    seq: int
    type: str
    level: str | None
    message: str | None
    data: dict[str, Any]
    attempt: int
    at: str


class JobSummary(TypedDict):
    """Where a job stands."""

    id: str
    name: str
    state: JobState
    stage: str | None
    progress: float
    eta_s: float | None
    best: Best | None
    failure: Failure | None
    attempt: int
    retries_left: int
    owner: str
    labels: dict[str, str]
    priority: int
    queue: QueuePlace | None
    finish_early: bool
    parent_id: str | None
    sweep_id: str | None
    spec_digest: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    keep: bool
    deleted_at: str | None
    links: dict[str, Any]


class Key(TypedDict):
    """An API key, without its secret."""

    id: str
    name: str
    prefix: str
    role: ClientRole
    scopes: list[Scope]
    project: str
    owner: str
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class Liveness(TypedDict):
    """The process answers."""

    status: Literal["ok"]
    version: str | None


class LoginLink(TypedDict):
    """A link that logs a browser in, once."""

    path: str
    expires_at: str


class LoginWays(TypedDict):
    """How people can log in here."""

    issuer: str | None
    browser: str | None
    device: str | None


class Model(TypedDict):
    """Weights that specs may name."""

    id: str
    name: str
    reference: str
    sha256: str
    size_bytes: int
    role: str | None
    architecture: str | None
    classes: list[str] | None
    imgsz: int | None
    metrics: dict[str, Any] | None
    dataset_digest: str | None
    job_id: str | None
    created_at: str
    deleted_at: str | None
    links: dict[str, Any]


class Part(TypedDict):
    """A part that is there."""

    number: int
    sha256: str
    size_bytes: int


class Prediction(TypedDict):
    """Boxes on an image, most certain first, and the network that has found them."""

    boxes: list[PredictedBox]
    width: int
    height: int
    took_ms: float
    sha256: str
    epoch: int | None
    final: bool


class Project(TypedDict):
    """People who share jobs, data and models."""

    name: str
    created_at: str


class ProjectUsage(TypedDict):
    """What is stored, what there is, and what was worked. Retention shortens what is counted."""

    stored: list[StoredBytes]
    jobs: list[JobsOfOwner]
    worked: list[Worked]


class Pruned(TypedDict):
    """What retention has taken, or would take."""

    dry_run: bool
    shares: list[PruneShare]
    freed_bytes: int
    waiting_keys: int
    waiting_bytes: int
    done: bool


class QuotaUse(TypedDict):
    """Limits of a project, and what it has used of them."""

    project: str
    limits: Quota
    gpu_hours: float
    stored_bytes: int


class Readiness(TypedDict):
    """Whether the service can take jobs."""

    status: Literal["ok", "degraded", "failed"]
    checks: dict[str, Check]
    oldest_queued_age_s: float | None


class Recipe(TypedDict):
    """A named preset of the distillation section."""

    name: str
    summary: str
    losses: list[dict[str, Any]]
    balance: str
    schedule: dict[str, Any]
    head_lr_multiplier: float


class RegisteredDataset(TypedDict):
    """One version of a dataset."""

    id: str
    name: str
    owner: str
    state: DatasetState
    reference: str | None
    sha256: str | None
    size_bytes: int | None
    source_sha256: str | None
    upload_id: str | None
    classes: list[str]
    splits: dict[str, DatasetSplit]
    findings: list[DatasetFinding]
    notes: list[str]
    digest: str | None
    created_at: str
    ended_at: str | None
    links: dict[str, Any]


class Review(TypedDict):
    """How far a review is."""

    job_id: str
    state: JobState
    mode: Literal["sample", "all"]
    classes: list[str]
    num_images: int
    num_boxes: int
    num_accepted: int
    num_rejected: int
    num_edited: int
    num_open: int
    num_looked_at: int
    notes: NotRequired[list[str]]
    open: list[str]
    links: dict[str, Any]


class ReviewImage(TypedDict):
    """An image to look at."""

    image: str
    file: str
    width: int
    height: int
    boxes: list[Scored]
    doubtful: list[Scored]
    decision: ReviewDecision | None
    version: str
    links: dict[str, Any]


class Series(TypedDict):
    """One role's metric over the steps."""

    role: str
    name: str
    points: list[Point]


class SweepSummary(TypedDict):
    """Where a sweep stands."""

    id: str
    name: str
    state: SweepState
    strategy: str
    num_trials: int
    counts: dict[str, int]
    best: BestTrial | None
    failure: Failure | None
    owner: str
    priority: int
    spec_digest: str
    created_at: str
    finished_at: str | None
    keep: bool
    deleted_at: str | None
    links: dict[str, Any]


class UploadPartLink(TypedDict):
    """Address in the object store of one part."""

    number: int
    url: str


class UploadSummary(TypedDict):
    """A file on its way in."""

    id: str
    state: UploadState
    name: str | None
    size_bytes: int
    received_bytes: int
    source_url: str | None
    failure: UploadFailure | None
    sha256: str | None
    part_bytes: int
    num_parts: int
    created_at: str
    expires_at: str
    links: dict[str, Any]


class Validation(TypedDict):
    """A spec that the service would accept."""

    valid: NotRequired[Literal[True]]
    used_up: list[UsedUp]
    warnings: list[str]
    spec_digest: str
    estimate: Estimate
    spec: dict[str, Any]


class Waiting(TypedDict):
    """For what a queued job waits."""

    reason: Literal["turn", "retry", "no_worker", "too_many_gpus", "no_gpu", "quota"] | None
    message: str | None
    position: int | None
    until: str | None
    num_workers: int
    most_gpus: int


class Webhook(TypedDict):
    """An address that is told what happens to the jobs of a project."""

    id: str
    url: str
    description: str
    events: list[WebhookEvent]
    enabled: bool
    disabled_reason: str | None
    project: str
    owner: str
    created_at: str
    secret: str | None


class Worker(TypedDict):
    """A running worker, as it last announced itself."""

    name: str
    host: str
    slots: int
    busy: int
    gpus: int
    devices: list[WorkerDevice]
    confinement: NotRequired[Confinement | None]
    started_at: str
    seen_at: str
    drained_at: NotRequired[str | None]


class Job(JobSummary):
    """A job in full."""

    claimable_at: str
    expires_at: str | None
    run_s: float
    adjustments: dict[str, Any] | None
    saved: Saved | None
    result: dict[str, Any] | None
    attempts: list[Attempt]
    transitions: list[Transition]
    spec: dict[str, Any]


class KeyWithSecret(Key):
    """A new API key with its secret, which is shown this once."""

    secret: str


class Sweep(SweepSummary):
    """A sweep in full."""

    spec: dict[str, Any]
    trials: list[Trial]


class Upload(UploadSummary):
    """A file on its way in, with its parts."""

    parts: list[Part]
    missing: list[int]
