"""Group a job's metrics into charts, and spell them as tables and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        "map", "mAP50-95", "Each epoch on the validation images. The level line is the teacher, measured once on them.",
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
        "speed", "Speed", "As the training loop measures it, from the first batch of an epoch to its last.",
        ("system/images_per_second",), unit="images/s",
    ),
    ChartGroup(
        "pace", "Training speed", "From the time between epochs; validation is in it.", ("train/loss",),
        unit="images/s", made="pace",
    ),
    ChartGroup(
        "precision", "Precision and recall", "At the score that serves both best.", ("val/precision", "val/recall")
    ),
    ChartGroup(
        "memory", "GPU and memory",
        "Memory in use at the end of each epoch: of the GPU, the fullest where there are several, and of all processes "
        "of the run.",
        ("system/gpu_memory_gib", "system/memory_gib"), unit="GiB",
    ),
    ChartGroup(
        "load", "Load of GPU and CPU",
        "Share of the time in which the GPU computed, in the last seconds of each epoch; 100 % of the CPU is one core.",
        ("system/gpu_percent", "system/cpu_percent"), unit="%",
    ),
    ChartGroup("device", "Temperature and power of the GPU", "At the end of each epoch.", ("system/",)),
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
_SPEED, _STEPS = "system/images_per_second", "system/steps_per_epoch"
_SYSTEM = {
    _SPEED: "images/s", "system/gpu_memory_gib": "GPU", "system/memory_gib": "processes", "system/gpu_percent": "GPU",
    "system/cpu_percent": "CPU", "system/gpu_temperature_c": "temperature, °C", "system/gpu_power_w": "power, W",
}  # fmt: skip
"""What is measured of the machine, in words."""
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


def facts_of(session: Session, job: JobRow, extents: Sequence[SeriesExtent]) -> CurveFacts:
    """Return the sizes from a job's metrics and result.

    None stands for a size that is not known (yet).
    """
    found, training = job.found, job.spec.get("training") or {}
    result = found if isinstance(found, JobResult) else None
    batch = None if result is None or result.training is None else result.training.batch
    num_train = None if result is None else result.dataset.num_train
    estimated = None if num_train is None or not batch else max(1, math.ceil(num_train / batch))
    steps = _steps(session, job, extents) or estimated
    teacher = {} if result is None or result.roles.teacher is None else {
        name: value for name, value in ((MAP, result.roles.teacher.map), (MAP50, result.roles.teacher.map50))
        if value is not None
    }  # fmt: skip
    epochs = training.get("epochs")
    return CurveFacts(num_train, steps, epochs if isinstance(epochs, int) else None, teacher)


def _steps(session: Session, job: JobRow, extents: Sequence[SeriesExtent]) -> int | None:
    """Return the steps of an epoch, the student's where it has begun."""
    told = sorted((one for one in extents if one.series.name == _STEPS), key=lambda one: _place(one.series))
    if not told:
        return None
    first = told[0]
    found = metrics.at_steps(session, job.id, [first.series], {first.last})[first.series]
    return next((round(point.value) for point in found.values() if point.value), None)


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
    measured = any(one.series.name == _SPEED for one in extents)
    groups = [group for group in TRAINING if not (measured and group.made == "pace")]
    others = [one for one in extents if not any(_is_named(one.series.name, group) for group in known)]
    rest = _chart(_REST, [one for one in others if one.series.role != Role.JOB])
    return (*charts_of(extents, groups), *([rest] if rest else []))


def health_charts(extents: Sequence[SeriesExtent]) -> tuple[JobChart, ...]:
    """Return the charts of the distillation's health."""
    return charts_of(extents, HEALTH)


def _belongs(series: SeriesName, group: ChartGroup) -> bool:
    return series.name != _STEPS and series.role in group.roles and _is_named(series.name, group)


def _is_named(name: str, group: ChartGroup) -> bool:
    beginnings = tuple(start for start in group.starts if start.endswith(("/", "_", "kd", "ground")))
    return name in group.starts or name.startswith(beginnings)


def _chart(group: ChartGroup, extents: Sequence[SeriesExtent]) -> JobChart | None:
    extents = sorted(extents, key=lambda one: (_place(one.series), one.series.name))
    if group.made == "gap":
        roles = {one.series.role if not one.series.name.startswith(_TEACHER) else Role.TEACHER for one in extents}
        if not {Role.STUDENT, Role.CONTROL} <= roles:
            return None
        extents = [_level(one) for one in extents]
        reads = tuple(one.series for one in extents)
        lines: tuple[ChartLine, ...] = (ChartLine("share of the gap", "student", "student", reads),)
    elif group.made == "pace":
        extents = [one for one in extents if one.first < one.last]
        lines = tuple(ChartLine(one.series.role, one.series.role, one.series.role, (one.series,)) for one in extents)
    else:
        parts = list(dict.fromkeys(_part(one.series) for one in extents))
        lines = tuple(_line(one.series, parts) for one in extents)
    if not lines:
        return None
    return JobChart(group.name, group.title, group.note, group.unit, group.made, lines, tuple(extents))


def _level(one: SeriesExtent) -> SeriesExtent:
    """Keep of a figure of the teacher, which is drawn level, its latest point."""
    return replace(one, first=one.last) if one.series.name.startswith(_TEACHER) else one


def _place(series: SeriesName) -> int:
    """Return where a curve stands in a chart: the student first."""
    return _ROLES.index(Role.TEACHER if series.name.startswith(_TEACHER) else Role(series.role))


def _part(series: SeriesName) -> str:
    """Return what a metric measures, in words, whoever it is of."""
    if series.name in _SYSTEM:
        return _SYSTEM[series.name]
    last = series.name.rpartition("/")[2].removesuffix("_loss").replace("_", " ")
    return "all terms" if series.name == "train/kd_loss" else last


def _line(series: SeriesName, parts: Sequence[str]) -> ChartLine:
    """Return a curve; in a chart of one metric roles differ by colour, elsewhere metrics do, and roles by dashes."""
    taught = series.name.startswith(_TEACHER)
    role = Role.TEACHER if taught else Role(series.role)
    if taught:
        return ChartLine("teacher, measured", role.value, role.value, (series,), flat=True)
    if len(parts) == 1:
        label = "teacher while it trained" if role is Role.TEACHER else role.value
        return ChartLine(label, role.value, role.value, (series,))
    part = _part(series)
    return ChartLine(f"{part}, {role.value}", role.value, f"series-{parts.index(part) % _SERIES + 1}", (series,))


_STUDENT, _CONTROL = SeriesName(Role.STUDENT, MAP), SeriesName(Role.CONTROL, MAP)
_TAUGHT = SeriesName(Role.STUDENT, f"{_TEACHER}mAP50-95")
_SHARE = SeriesName(Role.JOB, "share of the gap")
"""Under which the points of that chart come when the database has worked them out."""
Points = Mapping[SeriesName, Iterable[MetricPoint]]


def _values(chart: JobChart, points: Points, facts: CurveFacts) -> list[dict[int, float | None]]:
    """Return each line's values by step."""
    by_step = {series: {point.step: point for point in found} for series, found in points.items()}
    if chart.made == "gap":
        return [_gap(by_step, _teacher(by_step, facts))]
    if chart.made == "pace":
        return [_pace(by_step.get(line.sources[0], {}), facts) for line in chart.lines]
    return [{step: point.value for step, point in by_step.get(line.sources[0], {}).items()} for line in chart.lines]


def _gap(by_step: Mapping[SeriesName, Mapping[int, MetricPoint]], teacher: float | None) -> dict[int, float | None]:
    """Return student less control as a percentage of teacher less control."""
    if _SHARE in by_step:
        return {step: point.value for step, point in by_step[_SHARE].items()}
    student, control = by_step.get(_STUDENT, {}), by_step.get(_CONTROL, {})
    found: dict[int, float | None] = {}
    for step, point in student.items():
        other = control.get(step)
        if teacher is None or point.value is None or other is None or other.value is None:
            continue
        gap = teacher - other.value
        found[step] = 100 * (point.value - other.value) / gap if gap > 0 else None
    return found


def _teacher(by_step: Mapping[SeriesName, Mapping[int, MetricPoint]], facts: CurveFacts) -> float | None:
    """Return the teacher's mAP50-95: as the result has it, else as it was measured last."""
    measured = [point.value for point in by_step.get(_TAUGHT, {}).values() if point.value is not None]
    return facts.teacher.get(MAP, measured[-1] if measured else None)


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
    steps = _spread(session, job_id, chart)
    wanted = {*steps, *(one.last for one in chart.extents if one.first == one.last)}
    if chart.made == "pace":
        before = [step - 1 for step in steps]
        found_before = [metrics.steps_until(session, job_id, one.series, before) for one in chart.extents]
        wanted |= {step for found in found_before for step in found if step is not None}
    series = [one.series for one in chart.extents]
    points = metrics.at_steps(session, job_id, series, wanted)
    values = _values(chart, {one: of_steps.values() for one, of_steps in points.items()}, facts)
    known = sorted({step for line in values for step in line} & set(steps))
    rows = tuple((step, tuple(line.get(step) for line in values)) for step in known)
    return ChartTable(tuple(line.label for line in chart.lines), rows)


def _spread(session: Session, job_id: str, chart: JobChart) -> list[int]:
    """Choose measured steps of the longest curve, about at even distances, and its ends."""
    longest = max(_common(chart), key=lambda one: one.last - one.first)
    reach = longest.last - longest.first
    places = sorted({longest.first + round(at * reach / (TABLE_ROWS - 1)) for at in range(TABLE_ROWS)})
    found = metrics.steps_from(session, job_id, longest.series, places)
    return sorted({step for step in found if step is not None})


def _common(chart: JobChart) -> tuple[SeriesExtent, ...]:
    """Return the extents of a chart's curves.

    Those of which another is worked out come as far as they go together.
    """
    if chart.made != "gap":
        return chart.extents
    both = [one for one in chart.extents if not one.series.name.startswith(_TEACHER)]
    first, last = max(one.first for one in both), min(one.last for one in both)
    return tuple(replace(one, first=first, last=last) if one in both else one for one in chart.extents)


def read_points(  # noqa: PLR0917 - which of whose points
    session: Session, job: JobRow, chart: JobChart, facts: CurveFacts, most: int, after: int | None = None,
    until: int | None = None,
) -> Points:  # fmt: skip
    """Read the points of a chart after one epoch and until another.

    Each curve has at most *most*.
    """
    extents = _within(session, job.id, chart, after, until)
    if chart.made != "gap":
        return metrics.thinned(session, job.id, extents, most=most, attempts=job.attempt)
    student = next((one for one in extents if one.series == _STUDENT), None)
    last = {one.last for one in chart.extents if one.series == _TAUGHT}
    teacher = _teacher(metrics.at_steps(session, job.id, [_TAUGHT], last), facts)
    if student is None or teacher is None:
        return {}
    found = metrics.thinned_share(session, job.id, student, teacher, most=most, attempts=job.attempt)
    return {_SHARE: found}


def _within(
    session: Session, job_id: str, chart: JobChart, after: int | None, until: int | None = None
) -> tuple[SeriesExtent, ...]:  # fmt: skip
    """Return of which stretches of curves a chart's rows are made.

    The rows are those after one epoch and until another.
    """
    found = []
    for one in _common(chart):
        if chart.made == "gap" and one.series.name.startswith(_TEACHER):
            found.append(one)
            continue
        first = one.first if after is None else max(one.first, after + 1)
        last = one.last if until is None else min(one.last, until)
        if first > last:
            continue
        if chart.made == "pace" and first > one.first:
            first = metrics.steps_until(session, job_id, one.series, [first - 1])[0] or one.first
        found.append(replace(one, first=first, last=last))
    return tuple(found)


def header_of(chart: JobChart) -> str:
    """Spell the first row of a chart's file."""
    return _spelled([["epoch", "time", *(cell(line.label) for line in chart.lines)]])


def rows_of(chart: JobChart, points: Points, facts: CurveFacts, after: int | None = None) -> str:
    """Spell a chart's numbers: one row an epoch, one column a curve."""
    values = _values(chart, points, facts)
    at = {point.step: point.at for found in points.values() for point in found}
    steps = sorted({step for line in values for step in line if after is None or step > after})
    return _spelled([step, _moment(at[step]), *(_number(line.get(step)) for line in values)] for step in steps)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _spelled(rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def cell(text: str) -> str:
    """Spell a name so that no spreadsheet takes it for a formula."""
    plain = printable(text)
    return f"'{plain}" if plain.startswith(_DANGEROUS) else plain
