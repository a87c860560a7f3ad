"""Show what a job measured: per class, by size, latency against accuracy, exports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fastapi import Request
from fastapi.responses import HTMLResponse
from retort.access import Scope
from retort.constants import Role
from retort.db import jobs
from retort.report.forms import described
from retort.spec.arms import ABOUT
from retort.spec.curves import CURVES, Curves
from retort.spec.exported import AnyExport, MeasuredExport
from retort.spec.figures import MeasuredFigures
from retort.spec.result import JobResult

from retort_api.deps import Caller, JobId, Serving
from retort_api.pages.job_documents import document
from retort_api.pages.job_head import show
from retort_api.pages.job_precision import ClassName, NetworkName, precision_view
from retort_api.pages.page_router import PageRouter

router = PageRouter()

WIDTH, HEIGHT = 720.0, 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 16.0, 14.0, 44.0
_MARKS = ("circle", "square", "diamond", "triangle", "cross")
_SERIES = 6
_NAME_WIDTH, _NAME_HEIGHT = 130.0, 15.0
_SIZES = ("small", "medium", "large")


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class, as each network finds it."""

    name: str
    scores: tuple[float | None, ...]
    """AP50-95 by role, in the order of the columns."""
    lead: float | None
    """Student less control; less the teacher where there is no control."""


@dataclass(frozen=True, slots=True)
class PlacedPoint:
    """One network in the plane of latency and accuracy, in units of the drawing."""

    name: str
    role: str
    mark: str
    x: float
    y: float
    until_x: float
    """Where its ninth decile lies."""
    low_y: float | None
    high_y: float | None
    p50: float
    p90: float
    map: float
    name_y: float = 0.0
    """Where its name stands, so that no two names lie upon each other."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Plane:
    """Latency against accuracy."""

    points: tuple[PlacedPoint, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    interval: bool
    """Whether the student has an interval."""


@router.page("/jobs/{job_id}/evaluation", scope=Scope.JOBS_READ)
def show_evaluation(  # noqa: PLR0917 - who asks, for what
    request: Request, service: Serving, caller: Caller, job_id: JobId, label: ClassName = "", network: NetworkName = ""
) -> HTMLResponse:
    """Show the figures of the job's result."""
    precision = precision_view(document(service, caller, job_id, CURVES, Curves), label, network)
    with service.read(caller) as session:
        found = jobs.get(session, job_id).found
    if not isinstance(found, JobResult):
        return show(
            request, service, caller, job_id, "evaluation", "job_measured.html", other=found, precision=precision
        )
    roles = found.roles.known()
    return show(
        request, service, caller, job_id, "evaluation", "job_evaluation.html", result=found, roles=roles,
        rows=found.roles.rows(), classes=classes(found), plane=plane(found), sizes=_SIZES, about=ABOUT,
        forms=[(one, one if isinstance(one, MeasuredExport) else None) for one in found.exports], described=described,
        letterboxes=letterboxes(found), precision=precision,
    )  # fmt: skip


def classes(result: JobResult) -> tuple[ClassRow, ...]:
    """Return the classes, ordered by how much the student differs in them."""
    roles = result.roles.known()
    other = result.roles.control or result.roles.teacher
    made = []
    for name, own in result.roles.student.per_class.items():
        beside = None if other is None else other.per_class.get(name)
        scores = tuple(None if name not in one.per_class else one.per_class[name].ap for _, one in roles)
        made.append(ClassRow(name, scores, None if beside is None else own.ap - beside.ap))
    return tuple(sorted(made, key=lambda row: (-abs(row.lead or 0.0), row.name)))


def letterboxes(result: JobResult) -> tuple[str, ...]:
    """Say into what the images were fitted, for each network and form once."""
    words = {
        "rectangle": "rectangles, as plain Ultralytics does for a .pt", "square": "squares", "shape": "its own shape",
    }  # fmt: skip
    named = [(str(role), one.letterbox) for role, one in result.roles.known()]
    named += [(one.path, one.letterbox) for one in result.exports if isinstance(one, MeasuredExport)]
    found: dict[str, list[str]] = {}
    for name, letterbox in named:
        if letterbox is not None:
            found.setdefault(words[letterbox], []).append(name)
    return tuple(f"{', '.join(names)}: images fitted into {how}" for how, names in found.items())


def plane(result: JobResult) -> Plane | None:
    """Place networks and exports by latency and accuracy; None where nothing was timed."""
    measured = _measured(result)
    if not measured:
        return None
    verdict, control = result.verdict, result.roles.control
    interval = None if verdict is None or control is None else verdict.interval
    bounds = None if interval is None or control is None else (control.map + interval.low, control.map + interval.high)
    xs = [value for _, _, _, p50, p90 in measured for value in (p50, p90)]
    ys = [score for _, _, score, _, _ in measured] + list(bounds or ())
    across, up = _Log(min(xs), max(xs)), _Linear(min(0.0, *ys), 1.08 * max(ys))
    points = []
    for place, (name, role, score, p50, p90) in enumerate(measured):
        low, high = bounds if bounds is not None and name == Role.STUDENT else (None, None)
        points.append(PlacedPoint(
            name, role, _MARKS[place % len(_MARKS)], across.at(p50), up.at(score), across.at(p90),
            None if low is None else up.at(low), None if high is None else up.at(high), p50, p90, score,
        ))  # fmt: skip
    return Plane(tuple(_apart(points)), across.ticks(), up.ticks(), bounds is not None)


def _apart(points: Sequence[PlacedPoint]) -> list[PlacedPoint]:
    """Move names down where they would lie upon each other."""
    placed: list[PlacedPoint] = []
    for point in sorted(points, key=lambda one: one.y):
        y = point.y - 8
        for other in placed:
            if abs(other.x - point.x) < _NAME_WIDTH and y - other.name_y < _NAME_HEIGHT:
                y = other.name_y + _NAME_HEIGHT
        placed.append(replace(point, name_y=round(y, 1)))
    return placed


def _measured(result: JobResult) -> list[tuple[str, str, float, float, float]]:
    named: Iterable[tuple[str, str, MeasuredFigures]] = [
        *((str(role), str(role), one) for role, one in result.roles.known()),
        *((one.path, f"series-{place % _SERIES + 1}", one) for place, one in enumerate(_forms(result.exports))),
    ]
    return [
        (name, role, one.map, one.latency_ms.p50, one.latency_ms.p90)
        for name, role, one in named
        if one.map is not None and one.latency_ms is not None and one.latency_ms.p50 > 0
    ]


def _forms(exports: Sequence[AnyExport]) -> list[MeasuredExport]:
    return [one for one in exports if isinstance(one, MeasuredExport)]


class _Linear:
    """A linear axis upwards."""

    def __init__(self, low: float, high: float) -> None:
        step = _nice((high - low or 1.0) / 4)
        self._low, self._high, self._step = low, math.ceil(high / step) * step, step
        if self._high <= self._low:
            self._high = self._low + step

    def at(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def ticks(self) -> tuple[Tick, ...]:
        number = math.floor((self._high - self._low) / self._step + 1e-9)
        values = [self._low + self._step * place for place in range(number + 1)]
        return tuple(Tick(self.at(value), f"{100 * value:.3g}") for value in values)


class _Log:
    """A logarithmic axis to the right."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = math.log10(low) - 0.08, math.log10(high) + 0.08
        if self._high - self._low < 0.4:
            middle = (self._high + self._low) / 2
            self._low, self._high = middle - 0.2, middle + 0.2

    def at(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def ticks(self) -> tuple[Tick, ...]:
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        firsts = (1, 2, 5) if self._high - self._low < 2.5 else (1,)
        values = [first * 10.0**power for power in powers for first in firsts]
        inside = [value for value in values if self._low <= math.log10(value) <= self._high]
        return tuple(Tick(self.at(value), f"{value:.3g}") for value in inside)


def _nice(step: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(first * power for first in (1, 2, 5, 10) if first * power >= step * 0.999)
