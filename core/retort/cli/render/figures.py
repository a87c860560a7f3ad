"""Write figures, sizes, durations and moments for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise


def score(value: float | None) -> str:
    """A metric with four digits; nothing when it is unknown."""
    return "" if value is None else f"{value:.4f}"


def share(value: float | None) -> str:
    """A fraction as per cent."""
    return "" if value is None else f"{value:.0%}"


def size(num_bytes: int) -> str:
    """A file size for people."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def duration(seconds: float | None, suffix: str = "") -> str:
    """Seconds as minutes and seconds, or as hours and minutes."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    text = f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
    return f"{text} {suffix}".strip()


def clock(at: str | float, shape: str = "%H:%M:%S") -> str:
    """Local time of a moment, given in RFC 3339 or in Unix seconds."""
    moment = datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) else datetime.fromisoformat(at)
    return moment.astimezone().strftime(shape)


_SHORT_ID = 12
"""Last digits of an id: they are random, and a command takes them for the whole."""


def short(job_id: str) -> str:
    """Return the end of an id that commands take for the whole."""
    return job_id[-_SHORT_ID:]


_BLOCKS, _LETTERS = "▁▂▃▄▅▆▇█", "_.,-=+*#"


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Return values as one line of at most *width* characters, each the mean of its share of them."""
    steps = _LETTERS if ascii_only else _BLOCKS
    number = min(width, len(values))
    bounds = [place * len(values) // number for place in range(number + 1)] if number else []
    shares = [values[first:last] for first, last in pairwise(bounds)]
    means = [sum(share) / len(share) for share in shares]
    if not means:
        return ""
    low, spread = min(means), max(means) - min(means)
    return "".join(steps[int((mean - low) / spread * (len(steps) - 1)) if spread else 0] for mean in means)
