"""What an export format is: a value that names a format and its options."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict

from retort.variants import Written, require_tag


class Export(Written):
    """One file to make from the student."""

    model_config = ConfigDict(json_schema_extra=require_tag("format"))

    suffix: ClassVar[str]
    """Ending of the file, with its dot."""
    media_type: ClassVar[str] = "application/octet-stream"
