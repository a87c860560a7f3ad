"""Say states, durations, sizes and ages in words."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from retort.states import JobState

STATES: dict[JobState, tuple[str, str]] = {
    JobState.QUEUED: ("○", "queued"),
    JobState.RUNNING: ("▶", "running"),
    JobState.AWAITING_REVIEW: ("✎", "awaits review"),
    JobState.PAUSING: ("◐", "pausing"),
    JobState.PAUSED: ("❚❚", "paused"),
    JobState.CANCELLING: ("◌", "cancelling"),
    JobState.SUCCEEDED: ("✓", "succeeded"),
    JobState.FAILED: ("✗", "failed"),
    JobState.CANCELLED: ("⊘", "cancelled"),
    JobState.EXPIRED: ("⌛", "expired"),
}
"""Symbol and words of each state: nothing is told by colour alone."""
STAGES = {
    "check": "checking the data",
    "train_teacher": "training the teacher",
    "pseudo_label": "labelling with the teacher",
    "teach_ahead": "asking the teacher ahead of time",
    "review": "review of the labels",
    "pilot": "trying the distillation",
    "distill": "distilling the student",
    "control": "training the control",
    "repeat": "training with further seeds",
    "arms": "training the other arms",
    "evaluate": "evaluating",
    "export": "exporting",
    "report": "writing the report",
    "advise": "measuring teachers",
    "measure": "measuring the network",
}
"""Each stage in words."""
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
NONE = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def state(value: str) -> str:
    """Return a state in words."""
    return STATES[JobState(value)][1]


def symbol(value: str) -> str:
    """Return the symbol of a state."""
    return STATES[JobState(value)][0]


def stage(value: str | None) -> str:
    """Return a stage in words."""
    return STAGES.get(value or "", (value or "").replace("_", " "))


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if hours == 0:
        return f"{minutes} min {whole % 60} s" if minutes < 10 and whole % 60 else f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def age(at: float | datetime | None, now: float) -> str:
    """Return how long ago a time was, in its largest unit."""
    if at is None:
        return NONE
    seconds = max(0.0, now - (at.timestamp() if isinstance(at, datetime) else at))
    for length, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {name} ago"
    return "just now"


def time(at: float | datetime | None) -> str:
    """Return a time in UTC, to the minute."""
    if at is None:
        return NONE
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def iso(at: float | datetime | None) -> str:
    """Return a time as ``<time datetime>`` wants it."""
    if at is None:
        return ""
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def size(num_bytes: float | None) -> str:
    """Return a number of bytes with its unit."""
    if num_bytes is None:
        return NONE
    value, unit = float(num_bytes), _UNITS[0]
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def share(value: float | None, digits: int = 1) -> str:
    """Return a share of one as a percentage."""
    return NONE if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def points(value: float | None, digits: int = 1) -> str:
    """Return a metric between 0 and 1 as points of 100."""
    return NONE if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """Return a difference of metrics in points of 100, with its sign."""
    if value is None or not math.isfinite(value):
        return NONE
    shown = f"{abs(100 * value):.{digits}f}"
    sign = "" if float(shown) == 0 else _MINUS if value < 0 else "+"
    return sign + shown


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with *digits* significant digits."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def count(value: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{value:,} {one if value == 1 else many or one + 's'}".replace(",", "\N{NARROW NO-BREAK SPACE}")
