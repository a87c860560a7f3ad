"""Show jobs, artifacts, events and metrics in responses; what all responses share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from retort.constants import MAP, MAP50, Role
from retort.db.metrics import MetricSeries as SeriesRow
from retort.db.models import ArtifactRow, AttemptRow, EventRow, JobRow, TransitionRow
from retort.spec.result import AnyResult
from retort.states import AttemptState, JobState

from retort_api.labels import LabelKey, LabelValue


class ResponseModel(BaseModel):
    """A value that leaves the service; times are UTC."""

    model_config = ConfigDict(from_attributes=True, frozen=True, populate_by_name=True, use_attribute_docstrings=True)


def job_path(job_id: str) -> str:
    """Return the address of a job."""
    return f"/v1/jobs/{job_id}"


def documented_as(*models: str) -> WithJsonSchema:
    """Describe in the contract what is kept and sent as plain JSON: as any of *models*, which the contract has."""
    # A bare $ref pydantic would look up among its own definitions, and fail.
    return WithJsonSchema({"anyOf": [{"$ref": f"#/components/schemas/{model}"} for model in models]})


def row_fields(row: object, model: type[ResponseModel], **given: Any) -> dict[str, Any]:
    """Take from *row* the fields of *model* that are not given."""
    return {**{name: getattr(row, name) for name in model.model_fields if name not in given}, **given}


class Failure(ResponseModel):
    """Why work failed."""

    code: str
    """Stable: programs decide by this."""
    message: str
    hint: str | None
    """What to change."""
    retryable: bool
    """Whether the cause was the world's; the service then tries again by itself, within a budget."""
    log_excerpt: str | None


class Confinement(ResponseModel):
    """Which parts of the machine runs are kept from, and which of these could not be had."""

    mode: Literal["best", "strict", "off"]
    in_force: tuple[str, ...]
    missing: dict[str, str]
    """Parts that the host does not allow, or that the operator leaves out, with the reasons."""


class Attempt(ResponseModel):
    """One try on one worker."""

    number: int
    worker: str
    host: str
    device: str | None
    state: AttemptState
    started_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    failure: Failure | None
    confinement: Confinement | None = None
    """How its run is confined; null while that is not known."""


class Transition(ResponseModel):
    """One change of state or stage."""

    kind: Literal["state", "stage"]
    name: str
    at: datetime
    actor: str
    reason: str | None
    attempt: int


class Best(ResponseModel):
    """The student's best epoch so far, by mAP50-95."""

    role: Role
    epoch: int
    map50: float | None = Field(alias=MAP50)
    map: float | None = Field(alias=MAP)


class Saved(ResponseModel):
    """What lies in the store for others to go on from."""

    attempt: int
    stage: str
    epoch: int
    """Whole epochs of the stage; 0 where the stage is finished."""


class JobLinks(ResponseModel):
    """Addresses on this service."""

    self: str
    events: str
    stream: str
    metrics: str
    artifacts: str
    attempts: str
    review: str
    cancel: str
    stop: str
    pause: str
    resume: str
    retry: str
    clone: str

    @classmethod
    def of(cls, job_id: str) -> JobLinks:
        """Return the links of a job."""
        home = job_path(job_id)
        parts = set(cls.model_fields) - {"self"}
        return cls.model_validate({"self": home, **{part: f"{home}/{part}" for part in parts}})


class QueuePlace(ResponseModel):
    """For what a job waits that no worker holds."""

    reason: Literal["turn", "retry", "no_worker", "too_many_gpus", "no_gpu", "quota", "paused", "review"]
    """`turn`: for a free worker; `retry`: for the end of a pause after a failure; `no_worker`: none runs;
    `too_many_gpus`: none has as many GPUs as the job needs; `no_gpu`: none has any that can be used, and no CPU may
    stand in; `quota`: its project has as many on workers as it may; `paused`: until it is resumed; `review`: for people
    who look at its pseudo-labels."""
    message: str
    """The same in words."""
    position: int | None
    """Place in the queue from 1, in the order in which jobs are claimed: by priority, then owners take turns; null
    outside of the queue, and far behind in a long one."""
    ahead: int | None
    """Jobs that are claimed before it."""
    until: datetime | None
    """End of the pause after a failure."""
    estimated_start_s: float | None
    """Seconds, in whole minutes, by what runs and how long the latest jobs took; null where that says nothing."""


class JobSummary(ResponseModel):
    """Where a job stands."""

    id: str
    name: str
    state: JobState
    stage: str | None
    """Fine position inside running."""
    progress: float
    """Of the whole run, 0 to 1."""
    eta_s: float | None
    best: Best | None
    failure: Failure | None
    attempt: int
    """Number of the latest attempt; 0 before the first."""
    retries_left: int
    owner: str
    labels: dict[str, str]
    """By which it is found again."""
    priority: int
    """Higher ones are claimed first."""
    queue: QueuePlace | None
    """For what it waits, as it stood a moment ago; null where a worker holds it, it has ended, or it is just queued."""
    finish_early: bool
    """Whether it was asked to end its training and keep the best."""
    parent_id: str | None
    """The job that this one retries, extends, or is a clone of."""
    sweep_id: str | None
    """The sweep of which it is a trial."""
    spec_digest: str
    """SHA-256 of the spec's canonical JSON, in hex."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    keep: bool
    """Whether it is pinned: retention passes it by."""
    deleted_at: datetime | None
    """When it was moved to the trash, from which it can be restored; null outside of it."""
    links: JobLinks

    @classmethod
    def of(cls, job: JobRow, queue: QueuePlace | None = None) -> Self:
        """Return the row as it is shown in lists."""
        return cls.model_validate(row_fields(job, cls, links=JobLinks.of(job.id), queue=queue))


class Job(JobSummary):
    """A job in full."""

    claimable_at: datetime
    """Not to be claimed before: after a failure a retry waits."""
    expires_at: datetime | None
    """When it is given up if it has not started by then."""
    run_s: float
    """Seconds for which the attempts that have ended ran."""
    adjustments: dict[str, Any] | None
    """What attempts have taught about the machine, such as a smaller batch; and as `extension` the job to which this
    one adds epochs, with the epochs after which it and those before it ended."""
    saved: Saved | None
    """From where another worker would go on, or a retry; once succeeded, the last state (stage `ended`), from which the
    job can be extended."""
    result: AnyResult | None
    """Once succeeded: figures of teacher, student and control, and what distillation gained; or the advice."""
    attempts: tuple[Attempt, ...]
    transitions: tuple[Transition, ...]
    spec: Annotated[dict[str, Any], documented_as("JobSpec", "AdviceSpec", "EvaluateSpec")]
    """The spec with its presets written out; submitting it again makes an equal job."""

    @classmethod
    def whole(
        cls,
        job: JobRow,
        attempts: Sequence[AttemptRow],
        transitions: Sequence[TransitionRow],
        queue: QueuePlace | None = None,
    ) -> Job:
        """Return the row with its attempts and transitions."""
        given = {
            "queue": queue, "links": JobLinks.of(job.id), "saved": job.recovery,
            "result": job.found if job.result else None, "attempts": attempts, "transitions": transitions,
        }  # fmt: skip
        return cls.model_validate(row_fields(job, cls, **given))


class Waiting(ResponseModel):
    """For what a queued job waits."""

    reason: Literal["turn", "retry", "no_worker", "too_many_gpus", "no_gpu", "quota"] | None
    """`turn`: for a free worker; `retry`: for the end of a pause after a failure; `no_worker`: none runs;
    `too_many_gpus`: none has as many GPUs as the job needs; `no_gpu`: none has any that can be used, and no CPU may
    stand in; `quota`: its project has as many on workers as it may; null: it does not wait in the queue."""
    message: str | None
    """The same in words."""
    position: int | None
    """Place in the queue, from 1, in the order in which jobs are claimed."""
    until: datetime | None
    """End of the pause after a failure."""
    num_workers: int
    """Workers that run."""
    most_gpus: int
    """Most GPUs that one of them has for one run."""


def whole(value: object) -> object:
    """Take 5.0 for the integer that JSON Schema says it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Change(BaseModel):
    """What may change about a job; what is left out stays as it is."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, json_schema_extra={"minProperties": 1}
    )

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] | None = None
    """Of the job; its spec keeps the one that it was submitted with."""
    labels: dict[LabelKey, LabelValue | None] = Field(default_factory=dict, max_length=64)
    """To set; null removes a label, and the others stay."""
    priority: Annotated[int, Field(ge=-100, le=100), BeforeValidator(whole)] | None = None
    """Of a job that has not ended."""
    keep: bool | None = None
    """Whether it is pinned: retention passes a pinned job by."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            msg = "names nothing to change"
            raise ValueError(msg)
        return self


class Extend(BaseModel):
    """What to add to a job that has succeeded."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    epochs: Annotated[int, Field(ge=1, le=10_000), BeforeValidator(whole)]
    """Epochs to add to those of the job, for student and control alike."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] | None = None
    """Of the new job; left out, it is the old one's."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=64)
    """To set beside those of the old job."""
    priority: Annotated[int, Field(ge=-100, le=100), BeforeValidator(whole)] | None = None
    """Of the new job; left out, it is the old one's."""


class Attempts(ResponseModel):
    """A job's tries, first to last."""

    data: tuple[Attempt, ...]


class JobPage(ResponseModel):
    """Jobs, newest first."""

    data: tuple[JobSummary, ...]
    next_cursor: str | None
    has_more: bool


class ArtifactLinks(ResponseModel):
    """Addresses on this service."""

    self: str


class Artifact(ResponseModel):
    """A published file."""

    id: str
    name: str
    role: str
    size_bytes: int
    sha256: str
    """Hex."""
    media_type: str
    metadata: dict[str, Any]
    created_at: datetime
    deleted_at: datetime | None
    """When it was moved to the trash; null outside of it."""
    links: ArtifactLinks

    @classmethod
    def of(cls, row: ArtifactRow) -> Artifact:
        """Return the row as it is shown."""
        address = f"{job_path(row.job_id)}/artifacts/{quote(row.name)}"
        return cls.model_validate(row_fields(row, cls, metadata=row.metadata_, links={"self": address}))


class Artifacts(ResponseModel):
    """What a job has published so far, by name."""

    data: tuple[Artifact, ...]


class Event(ResponseModel):
    """One thing that happened to a job."""

    seq: int
    """Counts from 1 without gaps."""
    type: str
    """state, stage, progress, metric, checkpoint, artifact, log, health, finished, failed, stopped or
    awaiting_review."""
    level: str | None
    message: str | None
    data: dict[str, Any]
    attempt: int
    at: datetime

    @classmethod
    def of(cls, row: EventRow) -> Event:
        """Return the row as it is shown."""
        return cls.model_validate(row)


class EventPage(ResponseModel):
    """Events in order."""

    data: tuple[Event, ...]
    next_after: int
    """What to send as ``after`` next time."""
    has_more: bool


class Point(ResponseModel):
    """One value of a metric; null where it was not finite."""

    step: int
    value: float | None
    at: datetime


class Series(ResponseModel):
    """One role's metric over the steps."""

    role: str
    name: str
    points: tuple[Point, ...]

    @classmethod
    def of(cls, series: SeriesRow) -> Series:
        """Return the curve as it is shown."""
        return cls.model_validate(series)


class Metrics(ResponseModel):
    """A job's curves."""

    data: tuple[Series, ...]
