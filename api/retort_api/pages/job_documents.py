"""Read the documents that a job has published for its pages."""

from __future__ import annotations

from typing import TypeVar

from retort.access import Principal
from retort.db import artifacts, jobs
from retort.db.artifacts import ArtifactNotFound
from retort.schema import StoredModel

from retort_api.deps import AppState

Document = TypeVar("Document", bound=StoredModel)


def document(service: AppState, caller: Principal, job_id: str, name: str, kind: type[Document]) -> Document | None:
    """Return the job's document of that name, or None.

    It may keep none yet, or none any more.
    """
    with service.read(caller) as session:
        jobs.get(session, job_id)
        try:
            row = artifacts.named(session, job_id, name)
        except ArtifactNotFound:
            return None
    return None if row.deleted_at is not None else kind.model_validate_json(b"".join(service.store.read(row.key)))
