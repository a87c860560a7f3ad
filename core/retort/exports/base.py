"""What an export format is: a value that names a format and its options."""

from __future__ import annotations

from typing import ClassVar

from retort.variants import Frozen


class Export(Frozen):
    """One file to make from the student."""

    suffix: ClassVar[str]
    """Ending of the file, with its dot."""
    media_type: ClassVar[str] = "application/octet-stream"
