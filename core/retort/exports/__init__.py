"""Export formats, one file per format: writing the file registers it."""

from __future__ import annotations

from typing import Any

from retort.exports.base import Export
from retort.schema import discover, tagged_union

AnyExport: Any = tagged_union(__name__, Export, "format")
"""The union of all formats, for use as a pydantic field type."""

EXPORT_FORMATS: dict[str, type[Export]] = {
    cls.model_fields["format"].default: cls  # type: ignore[misc]
    for cls in discover(__name__, Export)
}

__all__ = ["EXPORT_FORMATS", "AnyExport", "Export"]
