"""Signed download addresses in requests and responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from retort_api.schemas.jobs import ResponseModel, whole


class NewDownload(BaseModel):
    """For how long a file may be read without a key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    expires_in_s: Annotated[int, BeforeValidator(whole)] = Field(default=3600, ge=1, le=604_800)
    """Seconds, a week at most."""


class DownloadUrl(ResponseModel):
    """An address at which whoever has it can read one file, until it expires."""

    url: str
    expires_at: datetime
    sha256: str
    """Of the file, in hex."""
    size_bytes: int
