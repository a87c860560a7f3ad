"""Committed files that hold what must not change unseen, and a comparison whose failure reads as a diff."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
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

    def near(
        self, name: str, value: Any, *, rel: float, least: float = 1e-9, leasts: Mapping[str, float] | None = None
    ) -> None:
        """Insist on the same JSON but for numbers, which may differ by *rel* of their size, and by *least* near 0.

        *leasts* has another least for paths that end so.
        """

        def least_at(path: str) -> float:
            return next((value for ending, value in (leasts or {}).items() if path.endswith(ending)), least)

        found = flat(value)
        if self.freeze:
            self.same_data(name, {at: written(one) for at, one in found.items()})
        kept = json.loads((self.folder / name).read_text())
        apart = [
            f"{at}: frozen {kept.get(at, 'nothing')}, now {written(found[at]) if at in found else 'nothing'}"
            for at in sorted(kept.keys() | found.keys())
            if not (at in kept and at in found and close(kept[at], found[at], rel, least_at(at)))
        ]
        assert not apart, "\n".join(["", f"{name}, to {rel:g} of each number:", *apart, "", AGAIN])


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Return what a JSON document holds, by the path to it."""
    if not isinstance(value, dict | list):
        return {at: value}
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    return {
        path: one for key, entry in entries for path, one in flat(entry, f"{at} / {key}" if at else str(key)).items()
    }


def written(value: Any) -> Any:
    """Round a number to six digits."""
    return float(f"{value:.5e}") if isinstance(value, float) else value


def close(one: Any, other: Any, rel: float, least: float) -> bool:
    """Return True if two values are the same, or two numbers nearly."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=rel, abs_tol=least)
    return bool(one == other)


def fields(value: Any, at: str = "") -> set[str]:
    """Return the paths of all fields of a JSON document, each with the kind of its value; a list's entries are one."""
    if isinstance(value, dict) and value:
        return set().union(*(fields(entry, f"{at}.{key}".lstrip(".")) for key, entry in value.items()))
    if isinstance(value, list) and value:
        return set().union(*(fields(entry, f"{at}[]") for entry in value))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kind = "number" if number else "null" if value is None else type(value).__name__
    return {f"{at}: {kind}"}
