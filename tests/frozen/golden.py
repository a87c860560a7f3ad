"""Committed files that hold what must not change unseen, and a comparison whose failure reads as a diff."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"
AGAIN = "If the change is meant: `python -m pytest tests/frozen --freeze`, and read `git diff` before the commit."


@dataclass(frozen=True)
class Golden:
    """What is frozen in one folder."""

    freeze: bool
    folder: Path = FOLDER

    def same(self, name: str, text: str) -> None:
        """Insist that *text* is what the file *name* holds."""
        path = self.folder / name
        if self.freeze:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        kept = path.read_text() if path.exists() else ""
        lines = difflib.unified_diff(kept.splitlines(), text.splitlines(), f"frozen {name}", "now", lineterm="", n=2)
        assert kept == text, "\n".join(["", *lines, "", AGAIN])

    def same_data(self, name: str, value: Any) -> None:
        """Insist on the same JSON, whose keys are compared in alphabetical order."""
        self.same(name, json.dumps(value, indent=1, sort_keys=True) + "\n")


def keys(value: Any) -> Any:
    """Return the tree of keys and kinds of a JSON document without its values; entries of a list are merged."""
    if isinstance(value, dict):
        return {key: keys(entry) for key, entry in sorted(value.items())}
    if isinstance(value, list):
        merged: Any = None
        for entry in value:
            merged = _both(merged, keys(entry))
        return [] if merged is None else [merged]
    if value is None:
        return "null"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _both(first: Any, second: Any) -> Any:
    if first is None or first == second:
        return second
    if isinstance(first, dict) and isinstance(second, dict):
        return {key: _both(first.get(key), second.get(key, first.get(key))) for key in sorted({*first, *second})}
    return " or ".join(sorted({str(first), str(second)}))
