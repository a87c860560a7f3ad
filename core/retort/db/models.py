"""The tables, and the column types they share."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import uuid_utils
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Double,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from retort.spec.result import Result, readable_result
from retort.states import AttemptState, DatasetState, JobState, SweepState, TrialState, UploadState

JOB_PREFIX = "job_"
ARTIFACT_PREFIX = "art_"
SWEEP_PREFIX = "swp_"
MODEL_PREFIX = "mdl_"
UPLOAD_PREFIX = "upl_"
DATASET_PREFIX = "dst_"
PREDICTION_PREFIX = "prd_"

Id = String(36)
Count = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER


def new_id(prefix: str) -> str:
    """Make an id that sorts by the time of its making (UUIDv7)."""
    return prefix + uuid_utils.uuid7().hex


def state_of(kind: type[StrEnum]) -> Enum:
    """Return a column type that stores a state as text.

    It has no check, so that a new state needs no migration of old rows.
    """
    return Enum(kind, native_enum=False, length=16, create_constraint=False, values_callable=list)


class Base(DeclarativeBase):
    """All tables; times are unix seconds by the database's clock, as doubles."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {float: Double(), dict[str, Any]: JSON(none_as_null=True)}  # noqa: RUF012 - read by SQLAlchemy


class Owned:
    """Columns of what belongs to somebody.

    Sessions of one project see no rows of another (``Database.read``).
    """

    project: Mapped[str] = mapped_column(String(63))
    owner: Mapped[str] = mapped_column(String(63))


_EXPIRES, _SAVED = text("expires_at IS NOT NULL"), text("recovery IS NOT NULL")
WARNED = text("level IN ('warning', 'error')")
"""Of events: the same words in an index and in what is to use it."""
_ENDED, _DELETED = text("finished_at IS NOT NULL"), text("deleted_at IS NOT NULL")


class JobRow(Owned, Base):
    """One accepted distillation job."""

    __tablename__ = "jobs"
    # Lists and the reaper, which looks through the few active jobs, go by the first index, claims by the second.
    # lease_until is not indexed so that PostgreSQL can renew a lease in place (HOT).
    __table_args__ = (
        Index(None, "state", "id"),
        Index(None, "project", "id"),
        Index("ix_jobs_queue", "state", "priority", "owner", "id"),
        Index("ix_jobs_expiry", "expires_at", postgresql_where=_EXPIRES, sqlite_where=_EXPIRES),
        Index("ix_jobs_saved", "finished_at", postgresql_where=_SAVED, sqlite_where=_SAVED),
        Index("ix_jobs_ended", "finished_at", postgresql_where=_ENDED, sqlite_where=_ENDED),
        Index("ix_jobs_deleted", "deleted_at", postgresql_where=_DELETED, sqlite_where=_DELETED),
        Index(None, "sweep_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    labels: Mapped[dict[str, Any]]
    """By which it is found again: text by key."""
    search: Mapped[str] = mapped_column(Text)
    """Its name and labels, in which words are searched."""
    state: Mapped[JobState] = mapped_column(state_of(JobState))
    stage: Mapped[str | None] = mapped_column(String(63))
    progress: Mapped[float]
    eta_s: Mapped[float | None]
    spec: Mapped[dict[str, Any]]
    spec_digest: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int]
    """Number of the latest attempt; 0 before the first."""
    fence: Mapped[int]
    """Grows with every claim; a write that carries an older one is refused."""
    retries: Mapped[int]
    """How often in a row the job may be tried again without getting further."""
    retries_left: Mapped[int]
    """Of these; an attempt that ends an epoch for the first time gives all of them back."""
    owner: Mapped[str] = mapped_column(String(63))
    """Who has submitted it, and shares the workers fairly with other owners."""
    priority: Mapped[int]
    """Higher ones are claimed first."""
    gpus: Mapped[int]
    """As in the spec's resources: how many a worker must have."""
    require_gpu: Mapped[bool | None] = mapped_column(Boolean())
    """As there: true is for a GPU alone, false lets the CPU stand in, null leaves that to the operator."""
    claimable_at: Mapped[float]
    """Not to be claimed before: a retry waits until its cause may have passed."""
    expires_at: Mapped[float | None]
    """Not to be claimed after; null once it has been claimed, or where the spec sets no limit."""
    claimed_at: Mapped[float | None]
    """When the present attempt began."""
    run_s: Mapped[float]
    """Seconds for which the ended attempts ran."""
    finish_early: Mapped[bool] = mapped_column(Boolean())
    """The run is to end its training, and to evaluate and publish the best network so far."""
    adjustments: Mapped[dict[str, Any] | None]
    """What attempts have taught about the machine; null where nothing."""
    recovery: Mapped[dict[str, Any] | None]
    """Files in the store from which any worker can go on."""
    parent_id: Mapped[str | None] = mapped_column(Id, index=True)
    """The job that this one retries, or is a clone of."""
    sweep_id: Mapped[str | None] = mapped_column(Id)
    """The sweep of which this is a trial."""
    worker: Mapped[str | None] = mapped_column(String(255))
    lease_until: Mapped[float | None]
    last_seq: Mapped[int] = mapped_column(Count)
    """Number of the latest event."""
    version: Mapped[int] = mapped_column(Count)
    """Grows with every change that a reader of the job can see; lease renewals are not among them."""
    best: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    """As its run wrote it; ``found`` reads it."""
    failure: Mapped[dict[str, Any] | None]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    keep: Mapped[bool] = mapped_column(Boolean())
    """Retention passes it by."""
    deleted_at: Mapped[float | None]
    """When it was moved to the trash; null outside of it."""
    purged_at: Mapped[float | None]
    """When its rows began to go for good: from then on it is not there for anybody."""

    @property
    def found(self) -> Result | None:
        """Parsed result of the job; None without one, or when unreadable."""
        return readable_result(self.result)


class AttemptRow(Base):
    """One attempt at a job, on one worker."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fence: Mapped[int]
    worker: Mapped[str] = mapped_column(String(255))
    host: Mapped[str] = mapped_column(String(255))
    device: Mapped[str | None] = mapped_column(String(63))
    state: Mapped[AttemptState] = mapped_column(state_of(AttemptState))
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
    exit_code: Mapped[int | None]
    failure: Mapped[dict[str, Any] | None]
    journal_offset: Mapped[int] = mapped_column(BigInteger)
    """Bytes of the attempt's journal that are recorded."""
    confinement: Mapped[dict[str, Any] | None]
    """What its run was kept from, and what could not be had; null while that is not known."""


class TransitionRow(Base):
    """One change of a job's state or stage, and who made it."""

    __tablename__ = "transitions"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[int] = mapped_column(Count, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"))
    kind: Mapped[str] = mapped_column(String(5))
    """``state`` or ``stage``."""
    name: Mapped[str] = mapped_column(String(63))
    at: Mapped[float]
    actor: Mapped[str] = mapped_column(String(255))
    reason: Mapped[str | None] = mapped_column(Text)
    attempt: Mapped[int]

    @staticmethod
    def row(
        job_id: str, state: JobState, *, attempt: int, now: float, actor: str, reason: str | None
    ) -> dict[str, Any]:
        """Return the row that says that the job has entered *state*."""
        when = {"at": now, "attempt": attempt, "actor": actor, "reason": reason}
        return {"job_id": job_id, "kind": "state", "name": state.value, **when}


class EventRow(Base):
    """One event of a job; *seq* has no gaps."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("job_id", "attempt", "n"),
        Index("ix_events_warned", "job_id", "seq", postgresql_where=WARNED, sqlite_where=WARNED),
    )

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    n: Mapped[int | None]
    """Line of the attempt's journal; null for what the service says itself."""
    type: Mapped[str] = mapped_column(String(16))
    level: Mapped[str | None] = mapped_column(String(8))
    message: Mapped[str | None] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    at: Mapped[float]

    @staticmethod
    def of_transition(entered: Mapping[str, Any], *, seq: int) -> dict[str, Any]:
        """Return the event row of a transition row."""
        about = {"job_id": entered["job_id"], "seq": seq, "attempt": entered["attempt"], "at": entered["at"]}
        data = {"state": entered["name"], "actor": entered["actor"], "reason": entered["reason"]}
        return {**about, "n": None, "type": "state", "data": data, "level": None, "message": None}


class MetricRow(Base):
    """One metric value at one step, as one attempt measured it."""

    __tablename__ = "metrics"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float | None]
    """Null where the measured value was not finite."""
    at: Mapped[float]


class ArtifactRow(Base):
    """One published file of a job.

    A later attempt's file replaces an earlier one's of the same name.
    """

    __tablename__ = "artifacts"
    __table_args__ = (
        UniqueConstraint("job_id", "name"),
        Index(None, "key"),
        Index("ix_artifacts_deleted", "deleted_at", postgresql_where=_DELETED, sqlite_where=_DELETED),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"))
    attempt: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(255))
    """Where the store keeps the bytes."""
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[float]
    deleted_at: Mapped[float | None]
    """When it was moved to the trash; null outside of it."""


class ModelRow(Owned, Base):
    """Weights that later jobs may name.

    The same name may stand for many, each with its digest.
    """

    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("project", "name", "sha256"), Index(None, "project", "id"), Index(None, "key")
    )  # fmt: skip

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(255))
    """Where the store keeps the bytes."""
    role: Mapped[str | None] = mapped_column(String(16))
    """What it was in its job; null for one from outside, as all that follows but its classes is."""
    architecture: Mapped[str | None] = mapped_column(String(63))
    classes: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    imgsz: Mapped[int | None]
    metrics: Mapped[dict[str, Any] | None]
    """On the job's validation images, in its best epoch."""
    dataset_digest: Mapped[str | None] = mapped_column(String(64))
    job_id: Mapped[str | None] = mapped_column(Id, ForeignKey("jobs.id"))
    """Null for one from outside, or whose job is deleted."""
    created_at: Mapped[float]
    deleted_at: Mapped[float | None]
    """When it was moved to the trash; null outside of it."""


class ReviewRow(Base):
    """Decision of a reviewer about the pseudo-labels of one image."""

    __tablename__ = "reviews"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"), primary_key=True)
    image: Mapped[str] = mapped_column(String(128), primary_key=True)
    decision: Mapped[str] = mapped_column(String(8))
    """``accept``, ``reject`` or ``edit``."""
    boxes: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    """With ``edit``: all that there is on the image."""
    reviewer: Mapped[str] = mapped_column(String(63))
    at: Mapped[float]
    seen: Mapped[bool] = mapped_column(Boolean())
    """Whether the image was looked at; not, where it was only said what becomes of the rest."""


class IdempotencyKeyRow(Owned, Base):
    """A client's idempotency key for one request that makes something.

    It makes one thing of a request that is sent twice.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        PrimaryKeyConstraint("project", "owner", "key"),
        Index(None, "created_at"),
        Index(None, "made_id"),
    )

    key: Mapped[str] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    """Of the request, by everything in it that counts."""
    made_id: Mapped[str] = mapped_column(Id)
    """The job or sweep that it made."""
    created_at: Mapped[float]


class SweepRow(Owned, Base):
    """One search: many jobs that differ in some fields of their specs."""

    __tablename__ = "sweeps"
    __table_args__ = (Index(None, "state", "id"), Index(None, "project", "id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    state: Mapped[SweepState] = mapped_column(state_of(SweepState))
    spec: Mapped[dict[str, Any]]
    spec_digest: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int]
    retries: Mapped[int]
    """As for each of its jobs."""
    num_trials: Mapped[int]
    """How many there are to be."""
    version: Mapped[int] = mapped_column(Count)
    """Grows with every decision: one that was made of what is no longer so is not carried out."""
    best: Mapped[int | None]
    """Number of the best trial so far."""
    failure: Mapped[dict[str, Any] | None]
    created_at: Mapped[float]
    finished_at: Mapped[float | None]
    keep: Mapped[bool] = mapped_column(Boolean())
    """Retention passes it and its jobs by."""
    deleted_at: Mapped[float | None]
    """When it was moved to the trash, and its jobs with it; null outside of it."""


class SweepTrialRow(Base):
    """One point of a sweep, and the job that tries it."""

    __tablename__ = "trials"
    __table_args__ = (UniqueConstraint("job_id"),)

    sweep_id: Mapped[str] = mapped_column(Id, ForeignKey("sweeps.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    job_id: Mapped[str | None] = mapped_column(Id, ForeignKey("jobs.id"))
    """Null where the point was no valid spec."""
    parameters: Mapped[dict[str, Any]]
    pruned: Mapped[bool] = mapped_column(Boolean())
    """It has been told to stop because others are better."""
    outcome: Mapped[TrialState | None] = mapped_column(state_of(TrialState))
    """Null while its job has not ended."""
    value: Mapped[float | None]
    reason: Mapped[str | None] = mapped_column(Text)
    begun_at: Mapped[float]
    ended_at: Mapped[float | None]


class WorkerRow(Base):
    """One running worker, as it last announced itself."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    slots: Mapped[int]
    """Runs that it supervises at a time."""
    gpus: Mapped[int]
    """Most GPUs that it can give to one run; 0 where it trains on the CPU, or takes no job."""
    devices: Mapped[list[dict[str, Any]]] = mapped_column(JSON())
    """What it has, with the reason where no run can have it; ``cpu`` among them where no GPU can be used."""
    confinement: Mapped[dict[str, Any] | None]
    """How far it can confine runs."""
    started_at: Mapped[float]
    seen_at: Mapped[float]
    """One that has not been seen for a lease's time is gone."""
    left_at: Mapped[float | None]
    """When it ended by itself; null while it runs, and where it was ended."""
    drained_at: Mapped[float | None]
    """Since when it takes no more jobs because somebody wished so; null where it takes them."""


class GarbageRow(Base):
    """A key of the store that may be unreferenced."""

    __tablename__ = "garbage"
    __table_args__ = (Index(None, "phase", "at"),)

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    phase: Mapped[str] = mapped_column(String(8))
    """``marked`` or ``sweeping``."""
    at: Mapped[float]
    """When it was marked, or last wanted by somebody."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)


class InstallationRow(Base):
    """A fact about this database.

    ``store`` is the mark that it leaves in its store.
    """

    __tablename__ = "installation"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))


class UploadRow(Owned, Base):
    """One file on its way in, in parts."""

    __tablename__ = "uploads"
    __table_args__ = (Index(None, "project", "id"), Index(None, "state", "touched_at"))

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    state: Mapped[UploadState] = mapped_column(state_of(UploadState))
    name: Mapped[str | None] = mapped_column(String(255))
    """Of the file at its sender's, for people."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    """Of the whole."""
    received_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    """Of the whole: as announced, and once complete as found."""
    part_bytes: Mapped[int]
    """Of every part but the last; 0 where parts have the sizes that were announced, or come one after the other."""
    num_parts: Mapped[int]
    """How many there are to be; 0 where they come one after the other."""
    created_at: Mapped[float]
    touched_at: Mapped[float]
    """When the latest part came."""
    source_url: Mapped[str | None] = mapped_column(String(2048))
    """Where a worker fetches it from; null once it is there, and where its sender sends it."""
    failure: Mapped[dict[str, Any] | None]
    """Why it could not be fetched: code, message, hint."""
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    """How often a worker has begun to fetch it."""
    worker: Mapped[str | None] = mapped_column(String(255))
    lease_until: Mapped[float | None]


class UploadPartRow(Base):
    """One part of an upload."""

    __tablename__ = "upload_parts"
    __table_args__ = (Index(None, "sha256"), Index(None, "key"))

    upload_id: Mapped[str] = mapped_column(Id, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str | None] = mapped_column(String(255))
    """Where the store keeps the bytes; null while they are awaited."""


class DatasetRow(Owned, Base):
    """One version of a dataset that was brought."""

    __tablename__ = "datasets"
    __table_args__ = (
        Index(None, "project", "name", "id"), Index(None, "state", "id"), Index(None, "key"), Index(None, "upload_id"),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    state: Mapped[DatasetState] = mapped_column(state_of(DatasetState))
    upload_id: Mapped[str | None] = mapped_column(Id)
    """What it is made from; null once that is no longer needed."""
    source_sha256: Mapped[str | None] = mapped_column(String(64))
    """Of the file that was sent."""
    sha256: Mapped[str | None] = mapped_column(String(64))
    """Of the file that is kept; null until it is ready, as the next two are."""
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    key: Mapped[str | None] = mapped_column(String(255))
    summary: Mapped[dict[str, Any] | None]
    """What the worker found: classes, counts, findings."""
    attempts: Mapped[int]
    """How often a worker has begun to look through it."""
    worker: Mapped[str | None] = mapped_column(String(255))
    lease_until: Mapped[float | None]
    created_at: Mapped[float]
    ended_at: Mapped[float | None]
    """When it became ready, or was refused."""
    deleted_at: Mapped[float | None]
    """When it went to the trash; null where it did not."""


class DatasetPreviewRow(Base):
    """A small picture of a dataset, made from one of its images."""

    __tablename__ = "dataset_previews"
    __table_args__ = (Index(None, "key"),)

    dataset_id: Mapped[str] = mapped_column(Id, ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(255))


class PredictionRow(Owned, Base):
    """An image whose boxes somebody waits for, for a minute at most."""

    __tablename__ = "predictions"
    __table_args__ = (Index(None, "claimed_at", "created_at"), Index(None, "project", "id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id)
    image: Mapped[bytes] = mapped_column(LargeBinary)
    confidence: Mapped[float]
    imgsz: Mapped[int]
    weights: Mapped[str] = mapped_column(String(255))
    """Where the store keeps the network."""
    claimed_at: Mapped[float | None]
    answer: Mapped[dict[str, Any] | None]
    """What the network has found, or why it could not look; null until then."""
    created_at: Mapped[float]
