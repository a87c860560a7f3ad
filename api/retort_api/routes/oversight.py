"""Routes for operators: the audit log, and quotas of projects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from fastapi import Body, Path, Query
from pydantic import ConfigDict, Field, field_validator
from retort.access import ANY_KEY, NAME, Forbidden, Scope
from retort.db import audit, quotas
from retort.db.identity_models import AuditRow
from retort.db.quotas import Limits
from retort.db.session import database_now

from retort_api.deps import Caller, Router, Serving
from retort_api.errors import documented
from retort_api.schemas.jobs import ResponseModel, whole

router = Router("oversight")
Named = Annotated[str | None, Query(pattern=rf"^{NAME}$")]
Project = Annotated[str, Path(description="Name of a project.", pattern=rf"^{NAME}$", max_length=63)]


class AuditEntry(ResponseModel):
    """One change that somebody made, or was refused."""

    id: int
    at: datetime
    project: str
    owner: str
    key_id: str
    """The key, or `proxy:` and a name."""
    action: str
    """Name of the operation."""
    target: str
    address: str
    """From where."""
    request_id: str
    outcome: str
    """`done`, or `refused_` and the status."""

    @classmethod
    def of(cls, row: AuditRow) -> Self:
        """Return the entry of a row."""
        told = {name: getattr(row, name) for name in cls.model_fields if name != "at"}
        return cls(**told, at=datetime.fromtimestamp(row.at, UTC))


class AuditPage(ResponseModel):
    """Entries, the latest first."""

    data: tuple[AuditEntry, ...]
    next_before: int | None
    """For `before` of the next page; null on the last."""


class Quota(ResponseModel):
    """Most that a project may have; null is no limit."""

    queued_jobs: int | None = Field(default=None, ge=0, le=2**53 - 1)
    running_jobs: int | None = Field(default=None, ge=0, le=2**53 - 1)
    gpu_hours: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """In a calendar month, by UTC."""
    stored_bytes: int | None = Field(default=None, ge=0, le=2**53 - 1)
    uploads: int | None = Field(default=None, ge=0, le=2**53 - 1)
    """At a time."""


class QuotaChange(Quota):
    """Limits of one project; those left out are as in the settings."""

    model_config = ConfigDict(extra="forbid", strict=True)

    _whole = field_validator("queued_jobs", "running_jobs", "stored_bytes", "uploads", mode="before")(whole)


class QuotaUse(ResponseModel):
    """Limits of a project, and what it has used of them."""

    project: str
    limits: Quota
    gpu_hours: float
    stored_bytes: int


@router.readable(
    "/v1/audit",
    scope=Scope.SERVICE_OPERATE,
    response_model=AuditPage,
    responses=documented("bad_parameter", "database_unavailable"),
)
def list_audit(
    *,
    service: Serving,
    project: Named = None,
    owner: Named = None,
    action: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_.]{1,255}$", description="Name of an operation.")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**53 - 1, description="`next_before` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """List who changed what, when, from where, and with which outcome; the latest first."""
    about: dict[str, Any] = {"project": project, "owner": owner, "action": action, "before": before}
    service.refusals.flush()
    with service.database.read() as session:
        found = audit.entries(session, **about, limit=limit + 1)
    shown = tuple(AuditEntry.of(row) for row in found[:limit])
    return AuditPage(data=shown, next_before=shown[-1].id if len(found) > limit else None)


@router.readable(
    "/v1/projects/{project}/quota",
    scope=ANY_KEY,
    response_model=QuotaUse,
    responses=documented("forbidden", "bad_parameter", "database_unavailable"),
)
def get_quota(service: Serving, caller: Caller, project: Project) -> QuotaUse:
    """Show how much a project may have, and what it has used of it."""
    if not caller.is_operator and project != caller.project:
        raise Forbidden("this key sees the quota of its own project alone", hint=f"ask for {caller.project}")
    return _use(service, project)


@router.put(
    "/v1/projects/{project}/quota",
    scope=Scope.SERVICE_OPERATE,
    response_model=QuotaUse,
    responses=documented("unsupported_media_type", "bad_parameter", "database_unavailable"),
)
def put_quota(service: Serving, project: Project, change: Annotated[QuotaChange, Body()]) -> QuotaUse:
    """Set the quota of a project; limits left out are as in the settings."""
    with service.database.begin() as session:
        quotas.put(session, project, Limits(**change.model_dump()))
    return _use(service, project)


def _use(service: Serving, project: str) -> QuotaUse:
    with service.database.read() as session:
        limits = quotas.limits_of(session, project)
        hours = quotas.gpu_hours(session, project, now=database_now(session))
        size = quotas.stored_bytes(session, project)
    shown = Quota.model_validate({name: getattr(limits, name) for name in quotas.KINDS})
    return QuotaUse(project=project, limits=shown, gpu_hours=round(hours, 3), stored_bytes=size)
