"""Draw what distillation gained in each of several jobs, with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retort.db.models import JobRow
from retort.spec.result import JobResult
from retort.sweeps.trial_plots import round_ticks

from retort_api.pages import words

WIDTH = 480.0
_LEFT, _RIGHT, _TOP, _ROW, _BOTTOM = 16.0, 16.0, 14.0, 52.0, 40.0
_LONGEST = 24
_SAID = {"gain": "a gain", "loss": "a loss", "none": "no difference shown", "unknown": "not known"}


@dataclass(frozen=True, slots=True)
class GainRow:
    """One job's gain over its control, in units of the drawing."""

    place: int
    name: str
    y: float
    x: float
    low_x: float | None
    high_x: float | None
    told: str
    """The figures."""
    said: str
    """What they show."""
    sentence: str


@dataclass(frozen=True, slots=True)
class GainChart:
    """Gains of several jobs over each other."""

    rows: tuple[GainRow, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float
    height: float
    width: float = WIDTH
    left: float = _LEFT
    right: float = WIDTH - _RIGHT


def gain_chart(rows: Sequence[JobRow], results: Sequence[JobResult | None]) -> GainChart | None:
    """Return the gains of the jobs that have one; None without any."""
    found = [
        (place, row.name, result.verdict, result.verdict.difference)
        for place, (row, result) in enumerate(zip(rows, results, strict=True))
        if result is not None and result.verdict is not None and result.verdict.difference is not None
    ]
    if not found:
        return None
    ends = [
        end for _, _, verdict, _ in found if verdict.interval for end in (verdict.interval.low, verdict.interval.high)
    ]
    least, most, ticks = round_ticks([0.0, *ends, *(difference for *_, difference in found)])

    def at(gain: float) -> float:
        return round(_LEFT + (gain - least) / (most - least) * (WIDTH - _LEFT - _RIGHT), 1)

    made = []
    for number, (place, name, verdict, difference) in enumerate(found):
        low, high = (None, None) if verdict.interval is None else (verdict.interval.low, verdict.interval.high)
        told = words.signed(difference)
        told += f" ({words.signed(low)} to {words.signed(high)})" if low is not None else ""
        shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
        made.append(GainRow(
            place, shown, _TOP + _ROW * (number + 0.55), at(difference), None if low is None else at(low),
            None if high is None else at(high), told, _SAID.get(verdict.kind, ""), verdict.sentence,
        ))  # fmt: skip
    height = _TOP + _ROW * len(made) + _BOTTOM
    digits = 0 if most - least > 0.05 else 1
    return GainChart(
        tuple(made), tuple((at(value), words.signed(value, digits)) for value, _ in ticks), at(0.0), height
    )
