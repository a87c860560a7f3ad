"""Signed download addresses in requests and responses."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from retort_api.schemas.jobs import ResponseModel


class NewDownload(BaseModel):
    """For how long a file may be read without a key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    expires_in_s: int = Field(default=3600, ge=1, le=604_800)
    """Seconds, a week at most."""


class DownloadUrl(ResponseModel):
    """An address at which whoever has it can read one file, until it expires."""

    url: str
    expires_at: datetime
    sha256: str
    """Of the file, in hex."""
    size_bytes: int
