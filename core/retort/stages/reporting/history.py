"""The curves of a run, read from the journals of its attempts."""

from __future__ import annotations

from pathlib import Path

from retort import journal
from retort.events import MetricEvent
from retort.spec.report import Curve
from retort.stages import past

Curves = dict[str, dict[str, dict[int, float | None]]]
"""Values by role, name and step; steps ascend."""


def curves(workdir: Path) -> Curves:
    """Read the metrics of all attempts; where two measured the same step, the later attempt counts."""
    found: Curves = {}
    for path in past.attempts(workdir):
        for event in journal.read(path)[0]:
            if isinstance(event, MetricEvent):
                for name, value in event.values.items():
                    found.setdefault(str(event.role), {}).setdefault(name, {})[event.step] = value
    return {
        role: {name: dict(sorted(points.items())) for name, points in sorted(series.items())}
        for role, series in sorted(found.items())
    }


def listed(found: Curves) -> dict[str, dict[str, Curve]]:
    """Return the curves as JSON holds them: two lists of the same length, ``step`` and ``value``."""
    return {
        role: {name: Curve(step=tuple(points), value=tuple(points.values())) for name, points in series.items()}
        for role, series in found.items()
    }
