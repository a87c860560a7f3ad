"""Place networks by latency and accuracy, with names that can be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from retort.spec.result import JobResult
from retort.sweeps.trial_plots import round_ticks

WIDTH, HEIGHT = 760.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 20.0, 26.0, 48.0
_MARKS = ("circle", "square", "diamond", "triangle", "cross")
_LETTER, _LINE, _LONGEST = 7.2, 15.0, 26
"""Width of a letter and height of a line, in units of the drawing; letters of a name that are shown."""
_GAP = 11.0
_FAR_APART = 6.0
"""Ratio of latencies from which the axis is one of orders of magnitude."""


@dataclass(frozen=True, slots=True)
class TimedNetwork:
    """A network with its latency and accuracy."""

    name: str
    style: str
    """Whose colour it has: a role, or ``series-1`` to ``series-6``."""
    map: float
    p50: float
    p90: float
    low: float | None = None
    high: float | None = None
    """Ends of the interval in which its mAP lies, where there is one."""


@dataclass(frozen=True, slots=True)
class PlacedPoint:
    """A network in units of the drawing."""

    network: TimedNetwork
    mark: str
    x: float
    y: float
    x_end: float
    """Where its ninth decile lies."""
    low_y: float | None
    high_y: float | None
    text: str
    text_x: float
    text_y: float
    anchor: str
    is_led: bool
    """Whether a line leads from it to its name."""


@dataclass(frozen=True, slots=True)
class PlaneTick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class LatencyPlane:
    """Latency against accuracy."""

    points: tuple[PlacedPoint, ...]
    x_ticks: tuple[PlaneTick, ...]
    y_ticks: tuple[PlaneTick, ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM

    @property
    def has_intervals(self) -> bool:
        """Whether a network has one."""
        return any(one.low_y is not None for one in self.points)


def student_bounds(result: JobResult) -> tuple[float, float] | None:
    """Return where the student's mAP lies by the interval of its gain."""
    verdict, control = result.verdict, result.roles.control
    interval = None if verdict is None else verdict.interval
    return None if interval is None or control is None else (control.map + interval.low, control.map + interval.high)


def latency_plane(networks: Sequence[TimedNetwork]) -> LatencyPlane | None:
    """Place networks by latency and accuracy; None where nothing was timed."""
    if not networks:
        return None
    across = _Across([value for one in networks for value in (one.p50, one.p90)])
    least, most, ticks = round_ticks([
        value for one in networks for value in (one.map, one.low, one.high) if value is not None
    ])  # fmt: skip

    def up(score: float) -> float:
        return round(HEIGHT - BOTTOM - (score - least) / (most - least) * (HEIGHT - TOP - BOTTOM), 1)

    digits = 0 if most - least > 0.05 else 1
    return LatencyPlane(
        tuple(_named(networks, across, up)), across.ticks,
        tuple(PlaneTick(up(value), f"{100 * value:.{digits}f}") for value, _ in ticks),
    )  # fmt: skip


class _Across:
    """The axis to the right: of equal steps, or of orders of magnitude where latencies are far apart."""

    def __init__(self, latencies: Sequence[float]) -> None:
        low, high = min(latencies), max(latencies)
        self._is_log = high > _FAR_APART * low
        if self._is_log:
            self._low, self._high = math.log10(low) - 0.08, math.log10(high) + 0.08
            values = [
                first * 10.0**power
                for power in range(math.floor(self._low), math.ceil(self._high) + 1)
                for first in ((1, 2, 5) if self._high - self._low < 2.5 else (1,))
            ]
            self.ticks = tuple(
                PlaneTick(self.at(one), f"{one:.3g}") for one in values if self._low <= math.log10(one) <= self._high
            )
        else:
            self._low, self._high, ticks = round_ticks(latencies)
            self.ticks = tuple(PlaneTick(self.at(value), text) for value, text in ticks)

    def at(self, latency: float) -> float:
        value = math.log10(latency) if self._is_log else latency
        return round(LEFT + (value - self._low) / (self._high - self._low) * (WIDTH - LEFT - RIGHT), 1)


@dataclass(frozen=True, slots=True)
class _Box:
    """A part of the drawing that is taken."""

    x: float
    y: float
    x_end: float
    y_end: float

    def meets(self, other: _Box) -> bool:
        return self.x < other.x_end and other.x < self.x_end and self.y < other.y_end and other.y < self.y_end


def _named(networks: Sequence[TimedNetwork], across: _Across, up: Callable[[float], float]) -> Iterator[PlacedPoint]:
    """Yield the points, each with its name where nothing else is drawn."""
    places = [(one, across.at(one.p50), up(one.map), across.at(one.p90)) for one in networks]
    taken = [_Box(x - 8, y - 8, x + 8, y + 8) for _, x, y, _ in places]
    taken += [_Box(x, y - 2, x_end, y + 2) for _, x, y, x_end in places]
    taken += [
        _Box(x - 6, up(one.high), x + 6, up(one.low))
        for one, x, _, _ in places
        if one.low is not None and one.high is not None
    ]
    for at, (one, x, y, x_end) in enumerate(places):
        text = one.name if len(one.name) <= _LONGEST else f"{one.name[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
        width = _LETTER * len(text)
        text_x, text_y, anchor, is_led = _free_place(x, y, width, taken)
        begin = text_x if anchor == "start" else text_x - width
        taken.append(_Box(begin, text_y - 0.8 * _LINE, begin + width, text_y + 0.2 * _LINE))
        yield PlacedPoint(
            one, _MARKS[at % len(_MARKS)], x, y, x_end, None if one.low is None else up(one.low),
            None if one.high is None else up(one.high), text, text_x, text_y, anchor, is_led,
        )  # fmt: skip


def _free_place(x: float, y: float, width: float, taken: Sequence[_Box]) -> tuple[float, float, str, bool]:
    """Return where a name beside a point meets nothing: as near as may be, with a line from farther away."""
    near = [y - 6.0, y + 16.0]
    far = [y + sign * (24.0 + _LINE * row) for row in range(14) for sign in (-1, 1)]
    for text_y in (*near, *far):
        for text_x, anchor in ((x + _GAP, "start"), (x - _GAP, "end"), (x + 2.5 * _GAP, "start")):
            begin = text_x if anchor == "start" else text_x - width
            box = _Box(begin - 2, text_y - 0.85 * _LINE, begin + width + 2, text_y + 0.3 * _LINE)
            inside = box.x >= LEFT and box.x_end <= WIDTH and box.y >= TOP - 14 and box.y_end <= HEIGHT - BOTTOM + 4
            if inside and not any(box.meets(one) for one in taken):
                return round(text_x, 1), round(text_y, 1), anchor, text_y not in near
    return x + _GAP, y - 6.0, "start", False
