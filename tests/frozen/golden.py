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
        path, text = self.folder / name, text.rstrip("\n") + "\n"
        if self.freeze:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        kept = path.read_text() if path.exists() else ""
        lines = difflib.unified_diff(kept.splitlines(), text.splitlines(), f"frozen {name}", "now", lineterm="", n=2)
        assert kept == text, "\n".join(["", *lines, "", AGAIN])

    def same_data(self, name: str, value: Any) -> None:
        """Insist on the same JSON, whose keys are compared in alphabetical order."""
        self.same(name, json.dumps(value, indent=1, sort_keys=True) + "\n")


def fields(value: Any, at: str = "") -> set[str]:
    """Return the paths of all fields of a JSON document, each with the kind of its value; a list's entries are one."""
    if isinstance(value, dict) and value:
        return set().union(*(fields(entry, f"{at}.{key}".lstrip(".")) for key, entry in value.items()))
    if isinstance(value, list) and value:
        return set().union(*(fields(entry, f"{at}[]") for entry in value))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kind = "number" if number else "null" if value is None else type(value).__name__
    return {f"{at}: {kind}"}
