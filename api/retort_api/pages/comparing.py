"""Lay jobs out beside each other: figures, curves, classes, latency against accuracy."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from retort.constants import MAP, MAP50, Role
from retort.db import Session, metrics
from retort.db.metrics import SeriesExtent
from retort.db.models import JobRow
from retort.report.comparison import JobComparison, compare
from retort.report.verdict import was_busy
from retort.spec.figures import TrainedFigures
from retort.spec.result import JobResult

from retort_api.pages import words
from retort_api.pages.job_samples import SampleGroup, SampleRow
from retort_api.pages.latency_plane import TimedNetwork, student_bounds

CURVES: Mapping[str, tuple[str, str]] = {
    "map": (MAP, "mAP50-95 of the student"),
    "map50": (MAP50, "mAP50 of the student"),
    "loss": ("train/loss", "Loss of the task"),
    "kd": ("train/kd_loss", "Loss of the distillation"),
    "box": ("val/box_loss", "Box loss on the validation images"),
    "cls": ("val/cls_loss", "Class loss on the validation images"),
    "precision": ("val/precision", "Precision"),
    "recall": ("val/recall", "Recall"),
}
"""Curves that can be laid over each other: name of the metric, and title."""
MOST_POINTS = 1000
MOST_IMAGES = 12
_LATENCY = "Latency p50 (p90), ms"
_TRUTH = "ground truth"
"""As reports call the picture with the labels."""
DASHES = ("", "9 4", "2 3", "10 3 2 3", "5 3", "14 4")
"""A line's pattern for each job, so that lines are told apart without colour."""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure of all jobs, as people read it."""

    title: str
    texts: tuple[str, ...]
    best: frozenset[int] = frozenset()
    """Places of the best; empty where none is better."""
    why_none: str = ""
    """Why no best one is told, where they cannot be compared."""


@dataclass(frozen=True, slots=True)
class OverlaidCurve:
    """One metric of all jobs by epoch."""

    title: str
    steps: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]
    """Of each job, in the order of the steps."""

    def data(self) -> str:
        """Return the numbers as JSON, for the chart."""
        return json.dumps([self.steps, *self.values], separators=(",", ":"))

    def rows(self, most: int = 40) -> Iterator[tuple[int, tuple[float | None, ...]]]:
        """Yield the numbers by epoch, spread evenly where there are more than *most*."""
        step = max(1, -(-len(self.steps) // most))
        for at in sorted({*range(0, len(self.steps), step), len(self.steps) - 1}):
            yield self.steps[at], tuple(one[at] for one in self.values)


class ComparedJobs:
    """Jobs beside each other, with their figures."""

    def __init__(self, rows: Sequence[JobRow]) -> None:
        self.rows = tuple(rows)
        self.results = tuple(found if isinstance(found := row.found, JobResult) else None for row in rows)

    @cached_property
    def comparison(self) -> JobComparison:
        """Figures, differing fields and classes."""
        return compare([
            {"id": row.id, "name": row.name, "state": row.state.value, "best": row.best, "spec": row.spec,
             "result": row.result}
            for row in self.rows
        ])  # fmt: skip

    def figures(self) -> list[FigureRow]:
        """Return the figures that at least one job has."""
        made = [self._figure(*one) for one in _FIGURES]
        return [one for one in made if any(text != words.NONE for text in one.texts)]

    def _figure(self, title: str, of: Callable[[JobRow, JobResult | None], Any], say: Any, better: int) -> FigureRow:
        values = [of(row, result) for row, result in zip(self.rows, self.results, strict=True)]
        known = [value for value in values if value is not None]
        best: frozenset[int] = frozenset()
        why = self._untimed() if title == _LATENCY and len(known) > 1 else ""
        if better and not why and len(set(known)) > 1:
            top = max(known) if better > 0 else min(known)
            best = frozenset(place for place, value in enumerate(values) if value == top)
        return FigureRow(title, tuple(words.NONE if value is None else say(value) for value in values), best, why)

    def _untimed(self) -> str:
        """Say why latencies cannot be compared; nothing where they can."""
        if any(was_busy(result) for result in self.results if result is not None):
            return "the machine was busy: do not compare"
        return "timed on different devices: do not compare" if len(timed_on(self.results)) > 1 else ""


def _student(result: JobResult | None) -> TrainedFigures | None:
    return None if result is None else result.roles.student


def _reached(row: JobRow, result: JobResult | None) -> float | None:
    student = _student(result)
    return student.map if student is not None else (row.best or {}).get(MAP)


def _last(_: JobRow, result: JobResult | None) -> float | None:
    student = _student(result)
    return None if student is None or student.last is None else student.last.map


def _best_epoch(_: JobRow, result: JobResult | None) -> str | None:
    student = _student(result)
    return None if student is None or student.best_epoch is None else f"{student.best_epoch} of {student.epochs}"


def _gain(_: JobRow, result: JobResult | None) -> tuple[float, str] | None:
    verdict = None if result is None else result.verdict
    if verdict is None or verdict.difference is None:
        return None
    told = words.signed(verdict.difference)
    if (interval := verdict.interval) is not None:
        told += f" ({words.signed(interval.low)} to {words.signed(interval.high)})"
    return verdict.difference, told


def _of_role(role: Role) -> Callable[[JobRow, JobResult | None], float | None]:
    def found(_: JobRow, result: JobResult | None) -> float | None:
        figures = None if result is None else getattr(result.roles, role.value)
        return None if figures is None else figures.map

    return found


def _latency(_: JobRow, result: JobResult | None) -> tuple[float, float] | None:
    student = _student(result)
    return None if student is None or student.latency_ms is None else (student.latency_ms.p50, student.latency_ms.p90)


def _attribute(name: str) -> Callable[[JobRow, JobResult | None], Any]:
    return lambda _, result: None if result is None else getattr(result.roles.student, name)


_FIGURES: tuple[tuple[str, Callable[[JobRow, JobResult | None], Any], Callable[[Any], str], int], ...] = (
    ("mAP50-95, best epoch", _reached, words.points, 1),
    ("mAP50-95, last epoch", _last, words.points, 1),
    ("Best epoch", _best_epoch, str, 0),
    ("mAP50", lambda row, result: result.roles.student.map50 if result else (row.best or {}).get(MAP50),
     words.points, 1),
    ("Gain over the control", _gain, lambda value: str(value[1]), 1),
    ("Control", _of_role(Role.CONTROL), words.points, 0),
    ("Teacher", _of_role(Role.TEACHER), words.points, 0),
    (_LATENCY, _latency, lambda value: f"{value[0]:.3g} ({value[1]:.3g})", -1),
    ("Timed on", _attribute("device"), str, 0),
    ("Parameters", _attribute("num_parameters"), lambda value: f"{value / 1e6:.2f} M", -1),
    ("File", _attribute("size_bytes"), words.size, -1),
    ("Trained on", lambda _, result: result and result.device, str, 0),
    ("Time of the job", lambda _, result: result and result.duration_s, words.duration, 0),
)  # fmt: skip


def whole_curve(session: Session, job_ids: Sequence[str], name: str) -> OverlaidCurve | None:
    """Return all points of one metric of the students; None without any."""
    metric, title = CURVES[name]
    found = metrics.curves(session, job_ids, role=Role.STUDENT, name=metric)
    return _overlaid(title, [found.get(job_id, {}) for job_id in job_ids])


def extents_of(session: Session, rows: Sequence[JobRow]) -> dict[str, dict[str, SeriesExtent]]:
    """Return how long the curves of each job's student are, by job and metric."""
    return {
        row.id: {one.series.name: one for one in metrics.extents(session, row.id) if one.series.role == Role.STUDENT}
        for row in rows
    }


def thinned_curve(
    session: Session, rows: Sequence[JobRow], extents: Mapping[str, Mapping[str, SeriesExtent]], name: str
) -> OverlaidCurve | None:  # fmt: skip
    """Return one metric of the students by epoch; None where no job has it.

    Long curves keep their lowest and highest values.
    """
    metric, title = CURVES[name]
    found: list[dict[int, float]] = []
    for row in rows:
        wanted = [extents[row.id][metric]] if metric in extents[row.id] else []
        points = metrics.thinned(session, row.id, wanted, most=MOST_POINTS, attempts=row.attempt)
        found.append({one.step: one.value for line in points.values() for one in line if one.value is not None})
    return _overlaid(title, found)


def _overlaid(title: str, found: Sequence[Mapping[int, float]]) -> OverlaidCurve | None:
    steps = tuple(sorted({step for points in found for step in points}))
    values = tuple(tuple(points.get(step) for step in steps) for points in found)
    return OverlaidCurve(title, steps, values) if steps else None


def timed(rows: Sequence[JobRow], results: Sequence[JobResult | None]) -> list[TimedNetwork]:
    """Return the students that have a latency, each in the colour of its job."""
    found = []
    for place, (row, result) in enumerate(zip(rows, results, strict=True)):
        student = _student(result)
        if result is not None and student is not None and student.latency_ms is not None:
            low, high = student_bounds(result) or (None, None)
            latency = student.latency_ms
            style = f"series-{place + 1}"
            found.append(TimedNetwork(row.name, style, student.map, latency.p50, latency.p90, low, high))
    return found


def timed_on(results: Sequence[JobResult | None]) -> tuple[str, ...]:
    """Return where students were timed; figures of several places cannot be compared."""
    students = [one for result in results if (one := _student(result)) is not None and one.latency_ms is not None]
    return tuple(dict.fromkeys(f"{one.runtime} on {one.device}" for one in students))


@dataclass(frozen=True, slots=True)
class ComparedPicture:
    """One picture of an image: its labels, or what one student made of it."""

    address: str
    title: str
    caption: str


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """An image with the answers of several students."""

    file: str
    pictures: tuple[ComparedPicture, ...]


def same_images(found: Sequence[tuple[JobRow, Sequence[SampleGroup]]]) -> tuple[ComparedImage, ...]:
    """Return the images that stand in the reports of at least two jobs."""
    of_jobs = [(row, {one.file: one for group in reversed(groups) for one in group.rows}) for row, groups in found]
    made = []
    for file in dict.fromkeys(file for _, files in of_jobs for file in files):
        having = [(row, files[file]) for row, files in of_jobs if file in files]
        if len(having) > 1:
            made.append(ComparedImage(file, tuple(_pictures(having))))
    return tuple(made[:MOST_IMAGES])


def _pictures(having: Sequence[tuple[JobRow, SampleRow]]) -> Iterator[ComparedPicture]:
    first, truth = having[0]
    for one in truth.pictures:
        if one.title == _TRUTH:
            yield ComparedPicture(f"/jobs/{first.id}/samples/{one.number}", one.title, one.caption)
    for row, sample in having:
        for one in sample.pictures:
            if one.title == Role.STUDENT:
                yield ComparedPicture(f"/jobs/{row.id}/samples/{one.number}", row.name, one.caption)


def table_of(compared: ComparedJobs, curves: Mapping[str, OverlaidCurve]) -> str:
    """Return all numbers of the comparison as CSV, one a line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("part", "what", "epoch", "job", "name", "value"))
    jobs = [(row.id, _plain(row.name)) for row in compared.rows]
    for part, what, epoch, values in _lines(compared, curves):
        for (job_id, name), value in zip(jobs, values, strict=True):
            if value is not None:
                writer.writerow((part, _plain(what), epoch, job_id, name, _plain(value)))
    return out.getvalue()


def _lines(
    compared: ComparedJobs, curves: Mapping[str, OverlaidCurve]
) -> Iterator[tuple[str, str, int | str, Sequence[Any]]]:  # fmt: skip
    for title, of, *_ in _FIGURES:
        values = [of(row, result) for row, result in zip(compared.rows, compared.results, strict=True)]
        yield "figure", title, "", [value[0] if isinstance(value, tuple) else value for value in values]
    for one in compared.comparison.classes:
        yield "class", one.name, "", one.values
    for field in compared.comparison.fields:
        yield "field", field.path, "", [json.dumps(value, ensure_ascii=False) for value in field.values]
    for name, found in curves.items():
        for at, step in enumerate(found.steps):
            yield "curve", CURVES[name][0], step, [one[at] for one in found.values]


def _plain(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
