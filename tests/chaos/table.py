"""The lines of the table: what was measured, what was wanted, and whether that was reached."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Line:
    """One promise, measured."""

    line: str
    figure: str
    goal: str
    ok: bool


def percentile(values: Sequence[float], share: float = 0.99) -> float:
    """Return the smallest value that *share* of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def table(lines: Sequence[Line]) -> str:
    """Return the lines for people."""
    rows = [
        ("line", "figure", "goal", ""),
        *((one.line, one.figure, one.goal, "ok" if one.ok else "FAILED") for one in lines),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip()
        for row in rows
    )


def as_json(lines: Sequence[Line]) -> str:
    """Return the lines for programs."""
    return json.dumps([asdict(one) for one in lines], indent=2) + "\n"


def say(text: str) -> None:
    """Tell how far it is, on standard error."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stderr.flush()
