"""Registered models."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict
from retort.db.models import ModelRow
from retort.model_ref import ModelRef

from retort_api.schemas.jobs import ResponseModel, job_path, row_fields


def model_path(name: str) -> str:
    """Return the address of all that is registered by a name."""
    return f"/v1/models/{name}"


class ModelLinks(ResponseModel):
    """Addresses on this service."""

    self: str
    file: str
    job: str | None


class Model(ResponseModel):
    """Weights that specs may name."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    name: str
    reference: str
    """What a spec says in place of a weights file."""
    sha256: str
    """Hex."""
    size_bytes: int
    role: str | None
    """Teacher or student in its job; null for one from outside, as all but its classes is."""
    architecture: str | None
    classes: tuple[str, ...] | None
    imgsz: int | None
    metrics: dict[str, Any] | None
    """On the job's validation images, in its best epoch."""
    dataset_digest: str | None
    job_id: str | None
    created_at: datetime
    deleted_at: datetime | None
    """When it was moved to the trash; null outside of it."""
    links: ModelLinks

    @classmethod
    def of(cls, row: ModelRow) -> Model:
        """Return the row as it is shown."""
        home = model_path(row.name)
        links = {"self": home, "file": f"{home}/{row.sha256}", "job": row.job_id and job_path(row.job_id)}
        reference = str(ModelRef(row.name, row.sha256))
        return cls.model_validate(row_fields(row, cls, reference=reference, links=links))


class Models(ResponseModel):
    """All that is registered by one name, newest first."""

    data: tuple[Model, ...]


class ModelPage(ResponseModel):
    """Registered models, newest first."""

    data: tuple[Model, ...]
    next_cursor: str | None
    has_more: bool
