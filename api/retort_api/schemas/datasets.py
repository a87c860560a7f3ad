"""Registered datasets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, RootModel
from retort import dataset_ref
from retort.data.dataset_summary import DatasetFinding, DatasetSplit, DatasetSummary
from retort.dataset_ref import DatasetRef
from retort.db.models import DatasetPreviewRow, DatasetRow
from retort.states import DatasetState

from retort_api.schemas.jobs import ResponseModel, row_fields
from retort_api.schemas.uploads import Sha256


def dataset_path(name: str, version: str) -> str:
    """Return the address of one version of a dataset."""
    return f"/v1/datasets/{name}/{version}"


class DatasetOfUpload(BaseModel):
    """A dataset to make of an upload."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=rf"^{dataset_ref.NAME}$")]
    """Later ones may have the same name; each has its digest."""
    upload: Annotated[str, Field(pattern="^upl_[0-9a-f]{32}$")]
    """Id of the upload of an archive; it may still be open."""


class DatasetOfUrl(BaseModel):
    """A dataset to make of what is at a URL."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=rf"^{dataset_ref.NAME}$")]
    """Later ones may have the same name; each has its digest."""
    url: Annotated[str, Field(pattern="^https://", max_length=2048)]
    """Where a worker fetches the archive from: on one of the hosts in ``RETORT_FETCH_FROM``."""
    sha256: Sha256 | None = None
    """Of what is there, in hex: another file is refused."""


class NewDataset(RootModel[DatasetOfUpload | DatasetOfUrl]):
    """A dataset to make of an upload, or of what is at a URL."""

    model_config = ConfigDict(frozen=True)


class DatasetLinks(ResponseModel):
    """Addresses on this service."""

    self: str
    content: str | None
    """The normalised dataset, a tar file; null until it is ready."""
    previews: tuple[str, ...]


class RegisteredDataset(ResponseModel):
    """One version of a dataset."""

    id: str
    name: str
    owner: str
    state: DatasetState
    reference: str | None
    """What a spec says as ``data.dataset``; null until it is ready, as the next two are."""
    sha256: str | None
    """Of the file that is kept, in hex."""
    size_bytes: int | None
    source_sha256: str | None
    """Of the file that was sent."""
    upload_id: str | None
    classes: tuple[str, ...]
    splits: dict[str, DatasetSplit]
    """Counts of images and boxes by split."""
    findings: tuple[DatasetFinding, ...]
    """Why it was refused, and what is doubtful in it."""
    notes: tuple[str, ...]
    """What was left out or changed."""
    digest: str | None
    """Of classes, images and labels, as the results of jobs name it."""
    created_at: datetime
    ended_at: datetime | None
    """When it became ready, or was refused."""
    links: DatasetLinks

    @classmethod
    def of(cls, row: DatasetRow, previews: Sequence[DatasetPreviewRow] = ()) -> RegisteredDataset:
        """Return the row as it is shown."""
        found = DatasetSummary.model_validate(row.summary or {})
        ready = row.state is DatasetState.READY and row.sha256 is not None
        home = dataset_path(row.name, row.sha256 if ready and row.sha256 else row.id)
        links = {
            "self": home,
            "content": f"{home}/content" if ready else None,
            "previews": tuple(f"{home}/previews/{one.number}.jpg" for one in previews),
        }
        told = {name: getattr(found, name) for name in ("splits", "findings", "notes", "digest")}
        reference = str(DatasetRef(row.name, row.sha256)) if ready and row.sha256 else None
        return cls.model_validate(
            row_fields(row, cls, reference=reference, classes=found.names, links=links, **told)
        )  # fmt: skip


class Datasets(ResponseModel):
    """All versions of one dataset, newest first."""

    data: tuple[RegisteredDataset, ...]


class DatasetPage(ResponseModel):
    """Datasets, newest first."""

    data: tuple[RegisteredDataset, ...]
    next_cursor: str | None
    has_more: bool
