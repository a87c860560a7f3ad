"""Bound what a project may have: jobs, GPU hours, bytes, uploads at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import case, func, select, text, union_all
from sqlalchemy.orm import Session

from retort.db.identity_models import QuotaRow
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
from retort.db.session import add_or_replace, table
from retort.errors import RetortError
from retort.settings import Settings
from retort.states import ACTIVE, JobState, UploadState

_JOBS, _ATTEMPTS = table(JobRow).c, table(AttemptRow).c
_HOUR_S = 3600.0
_SOON_S = 60.0
"""When another try is worth it where nobody can know when there is room."""


class QuotaExceeded(RetortError):
    """The project has as much as it may have."""

    code = "quota_exceeded"

    def __init__(self, what: str, used: str, most: str, *, frees: str, wait_s: float) -> None:
        super().__init__(f"the project has used its quota of {what}: {used} of {most}", hint=frees)
        self.what = what
        self.retry_after_s = max(1, round(wait_s))
        self.headers = {"Retry-After": str(self.retry_after_s)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Most that a project may have of each; None is no limit."""

    queued_jobs: int | None = None
    running_jobs: int | None = None
    gpu_hours: float | None = None
    stored_bytes: int | None = None
    uploads: int | None = None


NO_LIMITS = Limits()
KINDS = tuple(one.name for one in fields(Limits))


def default_limits(settings: Settings) -> Limits:
    """Return the limits of projects for which none are set."""
    return Limits(
        queued_jobs=settings.max_queued_jobs, running_jobs=settings.max_running_jobs,
        gpu_hours=settings.max_gpu_hours, stored_bytes=settings.max_stored_bytes, uploads=settings.max_uploads,
    )  # fmt: skip


def limits_of(session: Session, project: str) -> Limits:
    """Return a project's limits: those set for it, else those of the settings."""
    row = session.get(QuotaRow, project)
    return _combined(row, session.info.get("limits", NO_LIMITS))


def set_for(session: Session, project: str) -> Limits:
    """Return the limits that are set for a project; None where the settings hold."""
    return _combined(session.get(QuotaRow, project), NO_LIMITS)


def _combined(row: QuotaRow | None, otherwise: Limits) -> Limits:
    if row is None:
        return otherwise
    own = {name: getattr(row, name) for name in KINDS}
    return Limits(**{name: getattr(otherwise, name) if own[name] is None else own[name] for name in KINDS})


def put(session: Session, project: str, limits: Limits) -> None:
    """Set a project's limits; what is None there is as in the settings."""
    row = {"project": project, **{name: getattr(limits, name) for name in KINDS}}
    add_or_replace(session, QuotaRow, [row], key=("project",), keep=())


def month_of(now: float) -> tuple[float, float]:
    """Return when the calendar month of *now* began and when it ends, by UTC."""
    at = datetime.fromtimestamp(now, UTC)
    begun = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = begun.replace(year=begun.year + begun.month // 12, month=begun.month % 12 + 1)
    return begun.timestamp(), following.timestamp()


def gpu_hours(session: Session, project: str, *, now: float) -> float:
    """Return the GPU hours of the project's attempts in this month, running ones included."""
    begun, _ = month_of(now)
    ended = func.coalesce(_ATTEMPTS.ended_at, now)
    started = case((_ATTEMPTS.started_at < begun, begun), else_=_ATTEMPTS.started_at)
    query = select(func.sum((ended - started) * _JOBS.gpus)).join_from(
        table(AttemptRow), table(JobRow), _JOBS.id == _ATTEMPTS.job_id
    )
    on_gpu = (_ATTEMPTS.device.is_not(None), _ATTEMPTS.device != "cpu")
    counted = query.where(_JOBS.project == project, ended > begun, *on_gpu)
    seconds = session.connection().execute(counted).scalar_one()
    return max(0.0, seconds or 0.0) / _HOUR_S


def stored_bytes(session: Session, project: str) -> int:
    """Return the bytes that the project keeps, and those announced.

    Each object counts once; of open uploads what is still to come counts too.
    """
    owned = (
        select(ArtifactRow.key, ArtifactRow.size_bytes).join(JobRow, JobRow.id == ArtifactRow.job_id)
        .where(JobRow.project == project),
        select(ModelRow.key, ModelRow.size_bytes).where(ModelRow.project == project),
        select(DatasetRow.key, DatasetRow.size_bytes).where(DatasetRow.project == project, DatasetRow.key.is_not(None)),
        select(DatasetPreviewRow.key, DatasetPreviewRow.size_bytes)
        .join(DatasetRow, DatasetRow.id == DatasetPreviewRow.dataset_id).where(DatasetRow.project == project),
        select(UploadPartRow.key, UploadPartRow.size_bytes).join(UploadRow, UploadRow.id == UploadPartRow.upload_id)
        .where(UploadRow.project == project, UploadPartRow.key.is_not(None)),
    )  # fmt: skip
    named = union_all(*owned).subquery()
    each = select(func.max(named.c.size_bytes).label("size_bytes")).group_by(named.c.key).subquery()
    awaited = select(func.sum(UploadRow.size_bytes - UploadRow.received_bytes)).where(
        UploadRow.project == project, UploadRow.state == UploadState.OPEN
    )
    kept = session.scalar(select(func.sum(each.c.size_bytes))) or 0
    return int(kept) + int(session.scalar(awaited) or 0)


def _number(session: Session, project: str, states: Collection[JobState]) -> int:
    query = select(func.count()).where(_JOBS.project == project, _JOBS.state.in_(states))
    return session.connection().execute(query).scalar_one()


class Room:
    """Free quota of projects for jobs, looked up once per transaction."""

    def __init__(self, session: Session, *, now: float) -> None:
        self._session = session
        self._now = now
        self._standings: dict[str, _Standing] = {}

    def take(self, project: str) -> None:
        """Count one more job of *project*.

        Raises:
            QuotaExceeded: which quota is used up, and when there is room again.

        """
        for refusal in self.refusals(project):
            raise refusal
        self._standings[project].queued += 1

    def refusals(self, project: str) -> Iterator[QuotaExceeded]:
        """Yield each quota that refuses one more job now."""
        if project not in self._standings:
            self._standings[project] = _standing(self._session, project, now=self._now)
        standing = self._standings[project]
        most, queued = standing.limits.queued_jobs, standing.queued
        if most is not None and queued >= most:
            frees = "it frees when a worker takes a job, or one is cancelled"
            yield QuotaExceeded("queued jobs", str(queued), str(most), frees=frees, wait_s=_SOON_S)
        yield from standing.others


@dataclass(slots=True)
class _Standing:
    """What a project may have and has, with the refusals that more queued jobs do not change."""

    limits: Limits
    queued: int
    others: tuple[QuotaExceeded, ...]


def _standing(session: Session, project: str, *, now: float) -> _Standing:
    limits = limits_of(session, project)
    queued = 0 if limits.queued_jobs is None else _number(session, project, {JobState.QUEUED})
    return _Standing(limits, queued, tuple(_other_refusals(session, project, limits, now=now)))


def _other_refusals(session: Session, project: str, limits: Limits, *, now: float) -> Iterator[QuotaExceeded]:
    if limits.gpu_hours is not None:
        used = gpu_hours(session, project, now=now)
        if used >= limits.gpu_hours:
            _, ends = month_of(now)
            told = (f"{used:.1f}", f"{limits.gpu_hours:g}")
            yield QuotaExceeded("GPU hours of this month", *told, frees=_month_ends(ends), wait_s=ends - now)
    try:
        check_bytes(session, project, limits=limits)
    except QuotaExceeded as refusal:
        yield refusal


def _month_ends(ends: float) -> str:
    return f"it frees at {datetime.fromtimestamp(ends, UTC):%Y-%m-%d %H:%M} UTC, with the month"


def check_upload(session: Session, project: str, *, more: int) -> None:
    """Refuse one more upload that is going to bring *more* bytes.

    Others of the project that begin wait until the transaction ends, so that all are counted.

    Raises:
        QuotaExceeded: as ``Room.take``.

    """
    limits = limits_of(session, project)
    if session.get_bind().dialect.name == "postgresql":
        session.connection().execute(_LOCK, {"project": project})
    if limits.uploads is not None:
        is_open = select(func.count()).where(UploadRow.project == project, UploadRow.state == UploadState.OPEN)
        number = session.scalar(is_open) or 0
        if number >= limits.uploads:
            frees = "it frees when one is completed or deleted: GET /v1/uploads lists them"
            raise QuotaExceeded("open uploads", str(number), str(limits.uploads), frees=frees, wait_s=_SOON_S)
    check_bytes(session, project, more=more, limits=limits)


def check_bytes(session: Session, project: str, *, more: int = 0, limits: Limits | None = None) -> None:
    """Refuse *more* bytes, or anything where the project stores too many already.

    Raises:
        QuotaExceeded: as ``Room.take``.

    """
    most = (limits or limits_of(session, project)).stored_bytes
    if most is None:
        return
    used = stored_bytes(session, project)
    if used + more > most or used >= most:
        frees = "it frees when jobs, artifacts, models, datasets or uploads are deleted and the trash is emptied"
        told = f"{used + more:,}" if more else f"{used:,}"
        raise QuotaExceeded("stored bytes", told, f"{most:,}", frees=frees, wait_s=_SOON_S)


def running_left(session: Session, *, now: float) -> dict[str, int]:
    """Return how many more jobs of each limited project may run now."""
    left: dict[str, int] = {}
    for project, limits in _waiting(session):
        if limits.running_jobs is not None:
            left[project] = max(0, limits.running_jobs - _number(session, project, ACTIVE))
        if limits.gpu_hours is not None and gpu_hours(session, project, now=now) >= limits.gpu_hours:
            left[project] = 0
    return left


def held_up(session: Session, *, now: float) -> dict[str, str]:
    """Return the projects whose waiting jobs may not begin now, with reasons."""
    found: dict[str, str] = {}
    for project, limits in _waiting(session):
        if limits.running_jobs is not None and _number(session, project, ACTIVE) >= limits.running_jobs:
            most = f"its quota of running jobs, {limits.running_jobs}, is used up"
            found[project] = f"{most}: it may begin when one of the project's jobs ends"
        if limits.gpu_hours is not None and gpu_hours(session, project, now=now) >= limits.gpu_hours:
            most = f"the project's {limits.gpu_hours:g} GPU hours of this month are used up"
            found[project] = f"{most}: {_month_ends(month_of(now)[1])}"
    return found


def _waiting(session: Session) -> list[tuple[str, Limits]]:
    """Return the projects with queued jobs, and their limits; none where there are no limits at all."""
    waiting = select(_JOBS.project).where(_JOBS.state == JobState.QUEUED).distinct()
    projects = session.connection().execute(waiting).scalars().all() if _any_limits(session) else ()
    return [(project, limits_of(session, project)) for project in projects]


def _any_limits(session: Session) -> bool:
    default = session.info.get("limits", NO_LIMITS)
    if default.running_jobs is not None or default.gpu_hours is not None:
        return True
    return session.connection().execute(_FIRST_QUOTA).first() is not None


_FIRST_QUOTA = select(table(QuotaRow).c.project).limit(1)


def within_limits(session: Session, projects: Mapping[str, str], *, now: float) -> list[str]:
    """Return which of the jobs may begin, by the limits of their *projects*.

    Claims of the same projects wait for each other until the transaction ends.
    """
    if not _any_limits(session):
        return list(projects)
    if session.get_bind().dialect.name == "postgresql":
        for project in sorted(set(projects.values())):
            session.connection().execute(_LOCK, {"project": project})
    left = running_left(session, now=now)
    allowed = []
    for job_id, project in projects.items():
        if project not in left:
            allowed.append(job_id)
        elif left[project] > 0:
            allowed.append(job_id)
            left[project] -= 1
    return allowed


_LOCK: Any = text("SELECT pg_advisory_xact_lock(hashtext('retort quota ' || :project))")
