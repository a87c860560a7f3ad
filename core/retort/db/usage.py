"""Count bytes by owner and kind, jobs, and GPU seconds by month."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, cast, false, func, literal, select, union_all
from sqlalchemy.orm import Session

from retort.db.models import (
    ArtifactRow,
    AttemptRow,
    DatasetPreviewRow,
    DatasetRow,
    JobRow,
    ModelRow,
    UploadPartRow,
    UploadRow,
)

MODELS, DATASETS, UPLOADS, SAVED = "models", "datasets", "uploads", "saved"


@dataclass(frozen=True, slots=True)
class StoredUsage:
    """Bytes that one owner keeps of one kind."""

    project: str
    owner: str
    kind: str
    """Role of the artifacts, ``models``, ``datasets``, ``uploads`` or ``saved``."""
    number: int
    size_bytes: int
    deleted_bytes: int
    """Of these, in the trash."""


@dataclass(frozen=True, slots=True)
class WorkedUsage:
    """Attempts of one owner's jobs that began in one month (UTC)."""

    project: str
    owner: str
    month: str
    """Such as ``2026-11``."""
    jobs: int
    attempts: int
    run_s: float
    gpu_s: float
    """Seconds times GPUs, of attempts that ran on a GPU."""


@dataclass(frozen=True, slots=True)
class OwnedJobs:
    """Number of one owner's jobs outside of the trash, by state."""

    project: str
    owner: str
    states: dict[str, int]


_OWNER = (JobRow.project, JobRow.owner)


def stored(session: Session) -> list[StoredUsage]:
    """Return the bytes in the store by owner and kind."""
    gone = func.coalesce(ArtifactRow.deleted_at, JobRow.deleted_at).is_not(None)
    kind = (*_OWNER, ArtifactRow.role)
    of_jobs = select(*kind, *_sizes(ArtifactRow.size_bytes, gone)).join(JobRow, JobRow.id == ArtifactRow.job_id)
    whose = (ModelRow.project, ModelRow.owner)
    models = select(*whose, literal(MODELS), *_sizes(ModelRow.size_bytes, ModelRow.deleted_at.is_not(None)))
    rows = [
        *session.execute(of_jobs.group_by(*kind)),
        *session.execute(models.group_by(*whose)),
        *session.execute(_datasets()),
        *session.execute(_uploads()),
    ]
    found = [StoredUsage(row[0], row[1], row[2], row[3], int(row[4]), int(row[5])) for row in rows]
    return sorted([*found, *_saved(session)], key=lambda one: (one.project, one.owner, one.kind))


def _datasets() -> Any:
    """Count what is kept of datasets: their content, and the previews beside it."""
    whose = (DatasetRow.project, DatasetRow.owner)
    of_one = select(func.sum(DatasetPreviewRow.size_bytes)).where(DatasetPreviewRow.dataset_id == DatasetRow.id)
    size = DatasetRow.size_bytes + func.coalesce(of_one.scalar_subquery(), 0)
    counted = select(*whose, literal(DATASETS), *_sizes(size, DatasetRow.deleted_at.is_not(None)))
    return counted.where(DatasetRow.key.is_not(None)).group_by(*whose)


def _uploads() -> Any:
    """Count the bytes that have come of uploads, open and complete."""
    whose = (UploadRow.project, UploadRow.owner)
    counted = select(*whose, literal(UPLOADS), *_sizes(UploadRow.received_bytes, false()))
    return counted.where(UploadRow.received_bytes > 0).group_by(*whose)


def _sizes(size: Any, gone: Any) -> tuple[Any, ...]:
    return func.count(), func.coalesce(func.sum(size), 0), func.coalesce(func.sum(size).filter(gone), 0)


def _saved(session: Session) -> Iterator[StoredUsage]:
    """Yield what jobs have saved to go on from; a job that goes on from another's files counts them too."""
    query = select(*_OWNER, JobRow.recovery, JobRow.deleted_at).where(JobRow.recovery.is_not(None))
    found: dict[tuple[str, str], list[int]] = {}
    for project, owner, recovery, deleted_at in session.execute(query):
        size = sum(file["size_bytes"] for file in recovery["files"])
        kept = found.setdefault((project, owner), [0, 0, 0])
        for place, value in enumerate((1, size, size if deleted_at is not None else 0)):
            kept[place] += value
    yield from (StoredUsage(*whose, SAVED, *numbers) for whose, numbers in found.items())


def worked(session: Session, *, now: float) -> list[WorkedUsage]:
    """Return the work of attempts by owner and the month in which they began."""
    month = _month(session, AttemptRow.started_at).label("month")
    ran = func.coalesce(AttemptRow.ended_at, now) - AttemptRow.started_at
    on_gpu = AttemptRow.device.is_not(None) & (AttemptRow.device != "cpu")
    gpu_s = func.coalesce(func.sum(ran * JobRow.gpus).filter(on_gpu), 0.0)
    columns = (func.count(AttemptRow.job_id.distinct()), func.count(), func.sum(ran), gpu_s)
    query = select(*_OWNER, month, *columns).join(JobRow, JobRow.id == AttemptRow.job_id)
    found = session.execute(query.group_by(*_OWNER, "month").order_by("month", *_OWNER)).all()
    return [WorkedUsage(row[0], row[1], row[2], row[3], row[4], float(row[5]), float(row[6])) for row in found]


def _month(session: Session, at: Any) -> Any:
    if session.get_bind().dialect.name == "sqlite":
        return func.strftime("%Y-%m", at, "unixepoch")
    return cast(func.to_char(func.timezone("UTC", func.to_timestamp(at)), "YYYY-MM"), Text)


def jobs_by_owner(session: Session) -> list[OwnedJobs]:
    """Return the number of jobs outside of the trash by owner and state."""
    query = select(*_OWNER, JobRow.state, func.count()).where(JobRow.deleted_at.is_(None))
    found: dict[tuple[str, str], dict[str, int]] = {}
    for project, owner, state, number in session.execute(query.group_by(*_OWNER, JobRow.state)):
        found.setdefault((project, owner), {})[state.value] = number
    return [OwnedJobs(*whose, states) for whose, states in sorted(found.items())]


def bytes_by_kind(session: Session) -> dict[str, int]:
    """Return the bytes in the store by kind, each object once in its kind."""
    keys = union_all(
        select(ArtifactRow.role.label("kind"), ArtifactRow.key, ArtifactRow.size_bytes),
        select(literal(MODELS).label("kind"), ModelRow.key, ModelRow.size_bytes),
        select(literal(DATASETS).label("kind"), DatasetRow.key, DatasetRow.size_bytes).where(
            DatasetRow.key.is_not(None)
        ),
        select(literal(DATASETS).label("kind"), DatasetPreviewRow.key, DatasetPreviewRow.size_bytes),
        select(literal(UPLOADS).label("kind"), UploadPartRow.key, UploadPartRow.size_bytes).where(
            UploadPartRow.key.is_not(None)
        ),
    ).subquery()
    once = select(keys.c.kind, func.max(keys.c.size_bytes).label("size")).group_by(keys.c.kind, keys.c.key).subquery()
    rows = session.execute(select(once.c.kind, func.sum(once.c.size)).group_by(once.c.kind)).all()
    return {**{row[0]: int(row[1]) for row in rows}, SAVED: sum(one.size_bytes for one in _saved(session))}


def trash_counts(session: Session) -> dict[str, int]:
    """Return the number of things in the trash by kind."""
    kinds: dict[str, Any] = {
        "jobs": JobRow, "artifacts": ArtifactRow, "models": ModelRow, "datasets": DatasetRow,
    }  # fmt: skip
    return {
        kind: session.scalar(select(func.count()).select_from(row).where(row.deleted_at.is_not(None))) or 0
        for kind, row in kinds.items()
    }
