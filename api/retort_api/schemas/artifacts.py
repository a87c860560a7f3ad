"""Published files."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from retort.db.models import Artifact as ArtifactRow

from retort_api.schemas.base import Out, job_path, shown


class ArtifactLinks(Out):
    """Addresses on this service."""

    self: str


class Artifact(Out):
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
    links: ArtifactLinks

    @classmethod
    def of(cls, row: ArtifactRow) -> Artifact:
        """Return the row as it is shown."""
        address = f"{job_path(row.job_id)}/artifacts/{quote(row.name)}"
        return cls.model_validate(shown(row, cls, metadata=row.metadata_, links={"self": address}))


class Artifacts(Out):
    """What a job has published so far, by name."""

    data: tuple[Artifact, ...]
