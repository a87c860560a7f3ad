"""ChartGroup a job's metrics into charts, and spell them as tables and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from retort.constants import MAP, MAP50, Role
from retort.db import Session, metrics
from retort.db.metrics import MetricPoint, SeriesExtent, SeriesName
from retort.db.models import JobRow
from retort.errors import printable
from retort.spec.result import JobResult

TABLE_ROWS = 12
_TEACHER = "teacher/"
"""The teacher's figures stand among the student's, under names that begin so."""
_ROLES = (Role.STUDENT, Role.CONTROL, Role.TEACHER)
_SERIES = 6
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
"""With what a cell begins that spreadsheets would take for a formula."""

Made = Literal["", "gap", "pace"]


@dataclass(frozen=True, slots=True)
class ChartGroup:
    """Metrics that share a chart."""

    name: str
    title: str
    note: str
    starts: tuple[str, ...]
    """Beginnings of their names, or whole ones."""
    roles: tuple[Role, ...] = _ROLES
    unit: str = ""
    made: Made = ""
    """What the chart shows is worked out of them."""


TRAINING = (
    ChartGroup(
        "map", "mAP50-95", "Each epoch on the validation images. The teacher is measured once.",
        (MAP, f"{_TEACHER}mAP50-95"), unit="mAP50-95",
    ),
    ChartGroup(
        "gap", "Share of the gap to the teacher",
        "Student less control, as a share of teacher less control, epoch by epoch. One seed: no proof yet.",
        (MAP, f"{_TEACHER}mAP50-95"), unit="%", made="gap",
    ),
    ChartGroup("map50", "mAP50", "The same at an overlap of 0.50.", (MAP50, f"{_TEACHER}mAP50"), unit="mAP50"),
    ChartGroup(
        "task", "Task losses", "The detector's own training losses; distillation terms are not in them.",
        ("train/box_loss", "train/cls_loss", "train/dfl_loss", "train/loss"), unit="loss",
    ),
    ChartGroup(
        "validation", "Validation losses", "Where they rise again, the network learns by heart.",
        ("val/box_loss", "val/cls_loss", "val/dfl_loss"), unit="loss",
    ),
    ChartGroup(
        "distillation", "Distillation losses",
        "What the student pays for differing from its teacher, term by term; the weight scales them all.",
        ("train/kd",), (Role.STUDENT,), "weighted loss",
    ),
    ChartGroup(
        "rate", "Learning rate", "By group of parameters; the control's is the same.", ("lr/",), (Role.STUDENT,), "rate"
    ),
    ChartGroup(
        "pace", "Training speed", "From the time between epochs; validation is in it.", ("train/loss",),
        unit="images/s", made="pace",
    ),
    ChartGroup(
        "precision", "Precision and recall", "At the score that serves both best.", ("val/precision", "val/recall")
    ),
    ChartGroup("device", "Device", "What the run took of its GPU.", ("system/",)),
)  # fmt: skip
HEALTH = (
    ChartGroup(
        "kl", "How far the answers are apart", "KL divergence of teacher and student, in nats; less is more alike.",
        ("health/kl_",), (Role.STUDENT,), "nats",
    ),
    ChartGroup(
        "alike", "How alike the features are", "Cosine and CKA by level: 1 is alike, 0 is unlike.",
        ("health/cosine_", "health/cka_"), (Role.STUDENT,),
    ),
    ChartGroup(
        "gradients", "Who pulls the student", "Size and direction of the distillation's gradient beside the task's.",
        ("health/grad_",), (Role.STUDENT,),
    ),
    ChartGroup(
        "teacher", "The teacher on these images", "Whether its answers fit the labels, and hold still.",
        ("health/teacher_", "health/box_iou"), (Role.STUDENT,),
    ),
    ChartGroup(
        "anchors", "Foreground and background", "Where on the image the terms act.",
        ("health/foreground", "health/background"), (Role.STUDENT,),
    ),
    ChartGroup("health-rest", "Further figures", "What else is measured.", ("health/",), (Role.STUDENT,)),
)  # fmt: skip
_REST = ChartGroup(
    "rest", "Further figures", "What else the run tells, such as the figures of losses of your own.", ("",)
)


@dataclass(frozen=True, slots=True)
class ChartLine:
    """One curve of a chart."""

    label: str
    role: str
    """By which it is dashed."""
    color: str
    sources: tuple[SeriesName, ...]
    """Metrics that it is made of; one where it is that metric itself."""
    flat: bool = False
    """Whether it was measured once and is drawn level."""


@dataclass(frozen=True, slots=True)
class JobChart:
    """Curves that share axes."""

    name: str
    title: str
    note: str
    unit: str
    made: Made
    lines: tuple[ChartLine, ...]
    extents: tuple[SeriesExtent, ...]

    @property
    def lines_json(self) -> str:
        """Description of the curves for the page's script."""
        told = [
            {
                "label": printable(line.label), "role": line.role, "color": line.color, "flat": line.flat,
                "source": None if self.made else line.sources[0], "reads": line.sources,
            }
            for line in self.lines
        ]  # fmt: skip
        return json.dumps(told)


@dataclass(frozen=True, slots=True)
class CurveFacts:
    """Sizes of a job by which its axes are scaled."""

    num_train: int | None
    steps_per_epoch: int | None
    epochs: int | None
    teacher: Mapping[str, float]
    """The teacher's figures as the result has them."""


@dataclass(frozen=True, slots=True)
class ChartTable:
    """Numbers of a chart at some of its epochs."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[float | None, ...]], ...]


def facts_of(job: JobRow) -> CurveFacts:
    """Return the sizes from a job's result; None where there is none yet."""
    found, training = job.found, job.spec.get("training") or {}
    result = found if isinstance(found, JobResult) else None
    batch = None if result is None or result.training is None else result.training.batch
    num_train = None if result is None else result.dataset.num_train
    steps = None if num_train is None or not batch else max(1, math.ceil(num_train / batch))
    teacher = {} if result is None or result.roles.teacher is None else {
        name: value for name, value in ((MAP, result.roles.teacher.map), (MAP50, result.roles.teacher.map50))
        if value is not None
    }  # fmt: skip
    epochs = training.get("epochs")
    return CurveFacts(num_train, steps, epochs if isinstance(epochs, int) else None, teacher)


def charts_of(extents: Sequence[SeriesExtent], groups: Sequence[ChartGroup]) -> tuple[JobChart, ...]:
    """Return the charts that have points; metrics are in the first naming them."""
    taken: set[SeriesName] = set()
    made: list[JobChart] = []
    for group in groups:
        found = [one for one in extents if _belongs(one.series, group)]
        fresh = [one for one in found if group.made or one.series not in taken]
        taken |= {one.series for one in found}
        if chart := _chart(group, fresh):
            made.append(chart)
    return tuple(made)


def training_charts(extents: Sequence[SeriesExtent]) -> tuple[JobChart, ...]:
    """Return the charts of the training; the last one has all further metrics."""
    known = (*TRAINING, *HEALTH)
    others = [one for one in extents if not any(_is_named(one.series.name, group) for group in known)]
    rest = _chart(_REST, [one for one in others if one.series.role != Role.JOB])
    return (*charts_of(extents, TRAINING), *([rest] if rest else []))


def health_charts(extents: Sequence[SeriesExtent]) -> tuple[JobChart, ...]:
    """Return the charts of the distillation's health."""
    return charts_of(extents, HEALTH)


def _belongs(series: SeriesName, group: ChartGroup) -> bool:
    return series.role in group.roles and _is_named(series.name, group)


def _is_named(name: str, group: ChartGroup) -> bool:
    beginnings = tuple(start for start in group.starts if start.endswith(("/", "_", "kd", "ground")))
    return name in group.starts or name.startswith(beginnings)


def _chart(group: ChartGroup, extents: Sequence[SeriesExtent]) -> JobChart | None:
    extents = sorted(extents, key=lambda one: (_place(one.series), one.series.name))
    if group.made == "gap":
        roles = {one.series.role if not one.series.name.startswith(_TEACHER) else Role.TEACHER for one in extents}
        if not {Role.STUDENT, Role.CONTROL} <= roles:
            return None
        reads = tuple(one.series for one in extents)
        lines: tuple[ChartLine, ...] = (ChartLine("share of the gap", "student", "student", reads),)
    elif group.made == "pace":
        extents = [one for one in extents if one.number > 1]
        lines = tuple(ChartLine(one.series.role, one.series.role, one.series.role, (one.series,)) for one in extents)
    else:
        parts = list(dict.fromkeys(_part(one.series) for one in extents))
        lines = tuple(_line(one.series, parts) for one in extents)
    if not lines:
        return None
    return JobChart(group.name, group.title, group.note, group.unit, group.made, lines, tuple(extents))


def _place(series: SeriesName) -> int:
    """Return where a curve stands in a chart: the student first."""
    return _ROLES.index(Role.TEACHER if series.name.startswith(_TEACHER) else Role(series.role))


def _part(series: SeriesName) -> str:
    """Return what a metric measures, in words, whoever it is of."""
    last = series.name.rpartition("/")[2].removesuffix("_loss").replace("_", " ")
    return "all terms" if series.name == "train/kd_loss" else last


def _line(series: SeriesName, parts: Sequence[str]) -> ChartLine:
    """Return a curve; in a chart of one metric roles differ by colour, elsewhere metrics do, and roles by dashes."""
    taught = series.name.startswith(_TEACHER)
    role = Role.TEACHER if taught else Role(series.role)
    if len(parts) == 1 or taught:
        return ChartLine(role.value, role.value, role.value, (series,), flat=taught)
    part = _part(series)
    return ChartLine(f"{part}, {role.value}", role.value, f"series-{parts.index(part) % _SERIES + 1}", (series,))


Points = Mapping[SeriesName, Iterable[MetricPoint]]


def _values(chart: JobChart, points: Points, facts: CurveFacts) -> list[dict[int, float | None]]:
    """Return each line's values by step."""
    by_step = {series: {point.step: point for point in found} for series, found in points.items()}
    if chart.made == "gap":
        return [_gap(by_step, facts)]
    if chart.made == "pace":
        return [_pace(by_step.get(line.sources[0], {}), facts) for line in chart.lines]
    return [{step: point.value for step, point in by_step.get(line.sources[0], {}).items()} for line in chart.lines]


def _gap(by_step: Mapping[SeriesName, Mapping[int, MetricPoint]], facts: CurveFacts) -> dict[int, float | None]:
    """Return student less control as a percentage of teacher less control."""
    student = by_step.get(SeriesName(Role.STUDENT, MAP), {})
    control = by_step.get(SeriesName(Role.CONTROL, MAP), {})
    said = by_step.get(SeriesName(Role.STUDENT, f"{_TEACHER}mAP50-95"), {})
    told = [point.value for point in said.values() if point.value is not None]
    teacher = facts.teacher.get(MAP, told[-1] if told else None)
    found: dict[int, float | None] = {}
    for step, point in student.items():
        other = control.get(step)
        if teacher is None or point.value is None or other is None or other.value is None:
            continue
        gap = teacher - other.value
        found[step] = 100 * (point.value - other.value) / gap if gap > 0 else None
    return found


def _pace(points: Mapping[int, MetricPoint], facts: CurveFacts) -> dict[int, float | None]:
    """Return images a second where the number of images is known, else epochs an hour.

    Between two attempts a job waits, and no speed is told.
    """
    found: dict[int, float | None] = {}
    before: MetricPoint | None = None
    for point in points.values():
        if before is not None and point.attempt == before.attempt and point.at > before.at:
            epochs_a_second = (point.step - before.step) / (point.at - before.at)
            scale = 3600.0 if facts.num_train is None else float(facts.num_train)
            found[point.step] = scale * epochs_a_second
        before = point
    return found


def unit_of(chart: JobChart, facts: CurveFacts) -> str:
    """Return the unit of a chart's values."""
    return "epochs/h" if chart.made == "pace" and facts.num_train is None else chart.unit


def table_of(session: Session, job_id: str, chart: JobChart, facts: CurveFacts) -> ChartTable:
    """Read the numbers of a chart at a few epochs at even distances."""
    steps = _spread(chart.extents)
    wanted = steps if chart.made != "pace" else {near for step in steps for near in (step - 1, step)}
    series = [one.series for one in chart.extents]
    found = metrics.at_steps(session, job_id, series, wanted)
    values = _values(chart, {one: points.values() for one, points in found.items()}, facts)
    known = sorted({step for line in values for step in line} & set(steps))
    rows = tuple((step, tuple(line.get(step) for line in values)) for step in known)
    return ChartTable(tuple(line.label for line in chart.lines), rows)


def _spread(extents: Collection[SeriesExtent]) -> list[int]:
    """Choose steps at which the longest curve was measured, if it was at even distances."""
    longest = max(extents, key=lambda one: one.number)
    stride = max(1, round((longest.last - longest.first) / max(1, longest.number - 1)))
    places = (longest.last - longest.first) // stride + 1
    number = min(places, TABLE_ROWS)
    chosen = {longest.first + stride * round(at * (places - 1) / max(1, number - 1)) for at in range(number)}
    return sorted(chosen | {longest.last})


def csv_of(chart: JobChart, points: Points, facts: CurveFacts) -> str:
    """Spell a chart's numbers: one row an epoch, one column a curve."""
    values = _values(chart, points, facts)
    at = {point.step: point.at for found in points.values() for point in found}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["epoch", "time", *(cell(line.label) for line in chart.lines)])
    for step in sorted({step for line in values for step in line}):
        moment = datetime.fromtimestamp(at[step], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        writer.writerow([step, moment, *(_number(line.get(step)) for line in values)])
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def cell(text: str) -> str:
    """Spell a name so that no spreadsheet takes it for a formula."""
    plain = printable(text)
    return f"'{plain}" if plain.startswith(_DANGEROUS) else plain
