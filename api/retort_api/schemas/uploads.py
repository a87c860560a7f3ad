"""Uploads and their parts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from retort.addresses import shown
from retort.db.models import UploadPartRow, UploadRow
from retort.states import UploadState

from retort_api.schemas.jobs import ResponseModel, row_fields

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
SMALLEST_PART = 64 << 10
LARGEST_PART = 64 << 20
MOST_PARTS = 20_000


def upload_path(upload_id: str) -> str:
    """Return the address of an upload."""
    return f"/v1/uploads/{upload_id}"


class AnnouncedPart(BaseModel):
    """A part that is to come."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    sha256: Sha256
    """Of the part, in hex."""
    size_bytes: Annotated[int, Field(ge=1, le=LARGEST_PART)]


class UploadAnnouncement(BaseModel):
    """A file that is to be sent in parts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    size_bytes: Annotated[int, Field(ge=1, le=1 << 50)]
    """Of the whole file."""
    sha256: Sha256 | None = None
    """Of the whole file, in hex: a file that the project has sent before is not sent again, and damage is noticed."""
    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f/\\]{1,255}$")] | None = None
    """What the file is called, for people."""
    part_bytes: Annotated[int, Field(ge=SMALLEST_PART, le=LARGEST_PART)] | None = None
    """Size of every part but the last; null lets the service choose."""
    parts: Annotated[tuple[AnnouncedPart, ...], Field(max_length=MOST_PARTS, strict=False)] = ()
    """All parts in order, instead of ``part_bytes``: those that the project has sent before are not sent again."""


class UploadFetch(BaseModel):
    """A file that a worker is to fetch."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    url: Annotated[str, Field(pattern="^https://", max_length=2048)]
    """On one of the hosts in ``RETORT_FETCH_FROM``."""
    sha256: Sha256 | None = None
    """Of the file, in hex: another one is refused, and one that the project has is not fetched."""
    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f/\\]{1,255}$")] | None = None
    """What the file is called, for people; null is the end of the URL."""


class UploadFailure(ResponseModel):
    """Why a file could not be fetched."""

    code: str
    message: str
    hint: str | None


class UploadLinks(ResponseModel):
    """Addresses on this service."""

    self: str
    complete: str
    signed: str | None
    """POST there gives addresses in the object store, to which parts can be PUT; null where the store is a folder."""


class Part(ResponseModel):
    """A part that is there."""

    number: int
    """From 1."""
    sha256: str
    size_bytes: int


class UploadSummary(ResponseModel):
    """A file on its way in."""

    id: str
    state: UploadState
    name: str | None
    size_bytes: int
    """0 while the server that it is fetched from has not said so."""
    received_bytes: int
    source_url: str | None
    """Where a worker fetches it from, without its query."""
    failure: UploadFailure | None
    """Why it could not be fetched."""
    sha256: str | None
    """Of the whole: as announced, and once complete as found."""
    part_bytes: int
    """Size of every part but the last; 0 where the sizes were announced, or parts come one after the other (tus)."""
    num_parts: int
    """How many there are to be; 0 where they come one after the other."""
    created_at: datetime
    expires_at: datetime
    """When it is dropped, unless another part comes."""
    links: UploadLinks

    @classmethod
    def of(cls, row: UploadRow, keep_s: float, *, signs: bool) -> UploadSummary:
        """Return the row as it is listed."""
        return cls.model_validate(_fields(row, keep_s, signs=signs))


class Upload(UploadSummary):
    """A file on its way in, with its parts."""

    parts: tuple[Part, ...]
    """Those that are there."""
    missing: tuple[int, ...]
    """Numbers of the parts that are still to be sent."""

    @classmethod
    def seen(cls, row: UploadRow, parts: Sequence[UploadPartRow], keep_s: float, *, signs: bool) -> Upload:
        """Return the row as it is shown."""
        there = tuple(
            Part(number=part.number, sha256=part.sha256, size_bytes=part.size_bytes) for part in parts if part.key
        )
        numbers = {part.number for part in there}
        missing = tuple(number for number in range(1, row.num_parts + 1) if number not in numbers)
        if row.state is UploadState.COMPLETE:
            missing = ()
        return cls.model_validate({**_fields(row, keep_s, signs=signs), "parts": there, "missing": missing})


def _fields(row: UploadRow, keep_s: float, *, signs: bool) -> dict[str, object]:
    home = upload_path(row.id)
    signs = signs and row.state is UploadState.OPEN and row.num_parts > 0
    links = {"self": home, "complete": f"{home}/complete", "signed": f"{home}/links" if signs else None}
    source = None if row.source_url is None else shown(row.source_url)
    return row_fields(row, UploadSummary, source_url=source, expires_at=row.touched_at + keep_s, links=links)


class UploadPartLink(ResponseModel):
    """Address in the object store of one part."""

    number: int
    url: str
    """PUT the bytes of the part there, without a key; whoever has the address can."""


class UploadPartLinks(ResponseModel):
    """Addresses of missing parts, at most a thousand."""

    data: tuple[UploadPartLink, ...]
    valid_s: float
    """For so long they are valid."""


class UploadPage(ResponseModel):
    """Uploads, newest first."""

    data: tuple[UploadSummary, ...]
    next_cursor: str | None
    has_more: bool
