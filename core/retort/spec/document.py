"""Change a spec document by a patch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return *document* changed by *patch* (JSON Merge Patch, RFC 7396): null removes a field, mappings are merged."""
    merged = {key: value for key, value in document.items() if patch.get(key, ...) is not None}
    for key, value in patch.items():
        if isinstance(value, dict):
            inner = document.get(key)
            merged[key] = merge(inner if isinstance(inner, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged
