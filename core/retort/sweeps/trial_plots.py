"""Draw a sweep's trials as SVG: parallel coordinates, and values in their order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from retort.page_text import spelled

Json = Mapping[str, Any]

SHADES = 8
"""Colours from the worst trial to the best."""
_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 70.0, 60.0, 40.0, 24.0, 340.0
_APART, _NARROWEST = 150.0, 720.0
_LONGEST = 18
_SHAPES = {"succeeded": "circle", "pruned": "cross", "running": "ring"}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its ends, its ticks, and the place of each trial on it."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    values: tuple[float, ...]
    texts: tuple[str, ...]
    """The same values as people read them."""

    def share(self, value: float) -> float:
        """Return where *value* lies between the ends, 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    @property
    def short(self) -> str:
        """The label, cut to a label's length."""
        return cut(self.label)


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Parallel coordinates: a line for each trial that succeeded."""

    axes: tuple[Axis, ...]
    numbers: tuple[int, ...]
    """Of the trials, in the order of the axes' values."""
    reverse: bool
    """Whether small values of the last axis are good."""

    def goodness(self, index: int) -> float:
        """Return how good a trial is among all, 0 to 1."""
        values = self.axes[-1].values
        low, high = _span(values)
        share = (values[index] - low) / (high - low)
        return 1.0 - share if self.reverse else share


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with its title."""

    name: str
    title: str
    note: str
    svg: Markup


def plots(sweep: Json) -> list[Plot]:
    """Return the drawings of a sweep, as the API shows it; none without values."""
    found = []
    if (coordinates := parallel(sweep)) is not None:
        note = "A line is a trial that succeeded, the more orange the better. Point at one to read its values."
        found.append(Plot("parallel", "Parameters", note, draw_parallel(coordinates)))
    if points := history(sweep):
        note = "Pruned trials ended early, so their values are those of fewer epochs."
        found.append(Plot("history", "Trials", note, draw_history(points, sweep["spec"]["objective"])))
    return found


def shorten(paths: Sequence[str]) -> list[str]:
    """Return the shortest unique suffixes of the paths."""
    parts = [path.split(".") for path in paths]
    lengths = [1] * len(paths)
    while True:
        ends = [".".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]
        # A number alone says nothing.
        longer = [
            length < len(part) and (ends.count(end) > 1 or end.split(".")[0].isdecimal())
            for part, length, end in zip(parts, lengths, ends, strict=True)
        ]
        if not any(longer):
            return ends
        lengths = [length + more for length, more in zip(lengths, longer, strict=True)]


def parallel(sweep: Json) -> Coordinates | None:
    """Return the parallel coordinates of the succeeded trials; None without any."""
    trials = [trial for trial in sweep["trials"] if trial["state"] == "succeeded" and trial["value"] is not None]
    if not trials:
        return None
    parameters, objective = sweep["spec"]["parameters"], sweep["spec"]["objective"]
    axes = [
        _axis(name, [trial["parameters"][path] for trial in trials], domain)
        for name, (path, domain) in zip(shorten(list(parameters)), parameters.items(), strict=True)
    ]
    values = [trial["value"] for trial in trials]
    low, high, ticks = round_ticks(values)
    axes.append(Axis(objective["metric"], low, high, tuple(ticks), *_both(values)))
    return Coordinates(tuple(axes), tuple(trial["number"] for trial in trials), objective["goal"] == "minimize")


def _axis(name: str, values: Sequence[Any], domain: Json) -> Axis:
    known = domain["values"] or values
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    if domain["values"] and (domain["log"] or not plain):
        return _categories(name, values, domain["values"])
    if domain["values"]:
        ticks = sorted(domain["values"])
        low, high = _span(ticks)
        return Axis(name, low, high, tuple((tick, _figure(tick)) for tick in ticks), *_both(values))
    if domain["log"]:
        return _orders(name, values, domain["min"], domain["max"])
    return _numbers(name, values, domain["min"], domain["max"])


def _both(values: Sequence[float]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    return tuple(values), tuple(map(_figure, values))


def _numbers(name: str, values: Sequence[float], low: float, high: float) -> Axis:
    ticks = [low + (high - low) * part / 4 for part in range(5)]
    return Axis(name, low, high, tuple((tick, _figure(tick)) for tick in ticks), *_both(values))


def _categories(name: str, values: Sequence[Any], known: Sequence[Any]) -> Axis:
    """Return an axis with a place for each value."""
    texts = [value if isinstance(value, str) else json.dumps(value) for value in known]
    places = [known.index(value) for value in values]
    ticks = tuple((float(place), cut(text)) for place, text in enumerate(texts))
    return Axis(name, -0.2, len(known) - 0.8, ticks, tuple(places), tuple(texts[place] for place in places))


def _orders(name: str, values: Sequence[float], least: float, most: float) -> Axis:
    """Return an axis of orders of magnitude."""
    low, high = log10(least), log10(most)
    ticks = [low + (high - low) * part / 4 for part in range(5)]
    shown = tuple((tick, f"{10**tick:.2g}") for tick in ticks)
    return Axis(name, low, high, shown, tuple(map(log10, values)), tuple(map(_figure, values)))


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    around = 0.0 if low < high else max(abs(low) * 0.1, 0.01)
    return low - around, high + around


def _figure(value: float) -> str:
    return f"{value:.4g}"


def cut(text: str) -> str:
    """Return *text* as short as a label may be."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, slots=True)
class TrialPoint:
    """The value of one trial, and the best until then."""

    number: int
    value: float
    state: str
    best: float | None
    """Of the trials that succeeded so far; null before the first."""


def history(sweep: Json) -> list[TrialPoint]:
    """Return the trials that have a value, in their order."""
    choose = max if sweep["spec"]["objective"]["goal"] == "maximize" else min
    best: float | None = None
    found = []
    for trial in sweep["trials"]:
        if trial["value"] is None or trial["state"] not in _SHAPES:
            continue
        if trial["state"] == "succeeded":
            best = trial["value"] if best is None else choose(best, trial["value"])
        found.append(TrialPoint(trial["number"], trial["value"], trial["state"], best))
    return found


def draw_parallel(chart: Coordinates) -> Markup:
    """Return parallel coordinates as an SVG element, coloured by the page's style sheet."""
    number = len(chart.axes)
    width = max(_NARROWEST, _LEFT + _RIGHT + _APART * (number - 1))
    apart = (width - _LEFT - _RIGHT) / max(1, number - 1)
    across = [_LEFT + apart * place for place in range(number)]

    def up(axis: Axis, value: float) -> float:
        return _HEIGHT - _BOTTOM - axis.share(value) * (_HEIGHT - _TOP - _BOTTOM)

    lines = [
        {
            "number": chart.numbers[at],
            "shade": min(SHADES - 1, int(chart.goodness(at) * SHADES)),
            "points": [(x, up(axis, axis.values[at])) for x, axis in zip(across, chart.axes, strict=True)],
            "told": ", ".join(f"{axis.label}: {axis.texts[at]}" for axis in chart.axes),
        }
        for at in sorted(range(len(chart.numbers)), key=chart.goodness)  # the best lies on top
    ]
    axes = [
        {
            "x": x,
            "axis": axis,
            "ticks": [(up(axis, value), text) for value, text in axis.ticks],
            "is_last": x == across[-1] and number > 1,
        }
        for x, axis in zip(across, chart.axes, strict=True)
    ]
    return _drawn("parallel.svg", width=width, height=_HEIGHT, top=_TOP, bottom=_HEIGHT - _BOTTOM, axes=axes,
                  lines=lines)  # fmt: skip


def draw_history(points: Sequence[TrialPoint], objective: Json) -> Markup:
    """Return the values of the trials in their order as an SVG element."""
    low, high, ticks = round_ticks([point.value for point in points])
    first, last = points[0].number, max(points[-1].number, points[0].number + 1)
    inside = _NARROWEST - _LEFT - _RIGHT

    def at(number: int, value: float) -> tuple[float, float]:
        y = _HEIGHT - 40.0 - (value - low) / (high - low) * (_HEIGHT - 56.0)
        return _LEFT + (number - first) / (last - first) * inside, y

    told = [point for point in points if point.best is not None]
    stairs = [at(point.number, point.best) for point in told if point.best is not None]
    step = max(1, ceil((last - first) / 10))
    return _drawn(
        "history.svg", width=_NARROWEST, height=_HEIGHT, left=_LEFT, right=_NARROWEST - _RIGHT,
        ticks=[(at(first, value)[1], text) for value, text in ticks],
        numbers=[(at(number, low)[0], number) for number in range(first, last + 1, step)],
        points=[
            {"point": point, "shape": _SHAPES[point.state], "xy": at(point.number, point.value)} for point in points
        ],
        path=_stairs(stairs), metric=objective["metric"], states=list(dict.fromkeys(one.state for one in points)),
        shapes=_SHAPES,
    )  # fmt: skip


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """Return an SVG path that holds each value until the next."""
    if not points:
        return ""
    (x, y), *rest = points
    return f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest)


def round_ticks(values: Sequence[float], wanted: int = 5) -> tuple[float, float, list[tuple[float, str]]]:
    """Return the ends of an axis around *values*, and its round ticks."""
    low, high = _span(values)
    rough = (high - low) / wanted
    order = 10.0 ** floor(log10(rough))
    step = next(factor * order for factor in (1, 2, 5, 10) if factor * order >= rough)
    begin, end = floor(low / step), ceil(high / step)
    digits = max(0, -floor(log10(step)))
    return begin * step, end * step, [(n * step, f"{n * step:.{digits}f}") for n in range(begin, end + 1)]


_TEMPLATES = Path(__file__).parent / "templates"


def _drawn(template: str, **given: Any) -> Markup:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=spelled,
    )  # fmt: skip
    environment.filters["px"] = lambda value: f"{value:.1f}"
    return Markup(environment.get_template(template).render(**given))  # noqa: S704 - the template escapes
