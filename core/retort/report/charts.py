"""Build the report's charts as plotly values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retort.constants import MAP, MAP50, Role
from retort.pipeline.history import Curves
from retort.spec.curves import Curves as RecordedCurves
from retort.spec.exported import MeasuredExport
from retort.spec.figures import ClassScores, Roles
from retort.spec.result import JobResult

Chart = dict[str, Any]
_TASK = ("box_loss", "cls_loss", "dfl_loss", "l1_loss")
_MOST_CLASSES = 30


def charts(curves: Curves, roles: Roles) -> list[Chart]:
    """Return every training chart that has values.

    Each has a name, title, note, height, and plotly's data and layout.
    """
    found = [
        _accuracy(MAP, curves, roles),
        _accuracy(MAP50, curves, roles),
        _task_losses(curves),
        _distillation(curves),
        _validation(curves),
        _rates(curves),
        _classes(roles),
    ]
    return [drawn for drawn in found if drawn["data"]]


def _accuracy(metric: str, curves: Curves, roles: Roles) -> Chart:
    key = "map" if metric == MAP else "map50"
    data = [
        line(role, curves[role][metric], color=role, dash="solid" if role == "student" else "dot", marker=marker)
        for role, marker in (("student", "circle"), ("control", "diamond"))
        if metric in curves.get(role, {})
    ]
    steps = [step for trace in data for step in trace["x"]]
    teacher = roles.teacher
    level = None if teacher is None else teacher.map if metric == MAP else teacher.map50
    if steps and level is not None:
        flat = {min(steps): level, max(steps): level}
        data.append(line("teacher", flat, color="teacher", dash="dash"))
    note = (
        "Each epoch on the validation images; the teacher as it ends. Epochs are measured before the weights are "
        "rounded to 16 bits for publishing, the table after it: they may differ in the third digit."
    )
    layout = {"yaxis": {"title": "mAP", "rangemode": "tozero"}}
    return chart(key, f"{metric.removeprefix('val/')} over epochs", note, data, layout)


def _task_losses(curves: Curves) -> Chart:
    note = "The detector's own training losses; distillation terms are not in them."
    return chart("task", "Task losses", note, _terms("train", curves), {"yaxis": {"title": "loss"}})


def _validation(curves: Curves) -> Chart:
    note = "The same on the validation images: where they rise again, the network learns by heart."
    return chart("validation", "Validation losses", note, _terms("val", curves), {"yaxis": {"title": "loss"}})


def _terms(group: str, curves: Curves) -> list[dict[str, Any]]:
    return [
        line(
            f"{term.removesuffix('_loss')}, {role}",
            curves[role][f"{group}/{term}"],
            color=f"series-{number}",
            dash="solid" if role == "student" else "dot",
        )
        for number, term in enumerate(_TASK, start=1)
        for role in ("student", "control")
        if f"{group}/{term}" in curves.get(role, {})
    ]


def _distillation(curves: Curves) -> Chart:
    series = curves.get("student", {})
    terms = [name for name in series if name.startswith("train/kd/") and name != "train/kd/weight"]
    data = [
        line(name.removeprefix("train/kd/"), series[name], color=f"series-{number % 6 + 1}")
        for number, name in enumerate(terms)
    ]
    layout: Chart = {"yaxis": {"title": "weighted loss", "rangemode": "tozero"}}
    if data and "train/kd/weight" in series:
        data.append({**line("schedule", series["train/kd/weight"], color="muted", dash="dash"), "yaxis": "y2"})
        layout["yaxis2"] = {
            "title": "schedule", "overlaying": "y", "side": "right", "range": [0, 1.05], "showgrid": False,
            "tickmode": "array", "tickvals": [0, 0.5, 1],
        }  # fmt: skip
    note = "What the student pays for differing from its teacher, term by term; the schedule scales them all."
    return chart("kd", "Distillation losses", note, data, layout)


def _compared(roles: Roles) -> Mapping[str, ClassScores]:
    """Return the classes of whom the student is compared with: its control, or else its teacher."""
    other = roles.control or roles.teacher
    return {} if other is None else other.per_class


def _classes(roles: Roles) -> Chart:
    student = roles.student.per_class
    other = _compared(roles)
    names = list(student)
    note = "Average precision over IoU 0.50 to 0.95."
    if len(names) > _MOST_CLASSES:
        names.sort(key=lambda name: -abs(student[name].ap - _ap(other, name)))
        note = f"The {_MOST_CLASSES} of {len(names)} classes in which student and {_against(roles)} differ most."
        names = names[:_MOST_CLASSES]
    data = [
        {
            "type": "bar",
            "name": role.value,
            "x": names,
            "y": [_ap(figures.per_class, name) for name in names],
            "hovertemplate": "%{x}: %{y:.3f}<extra>" + role + "</extra>",
            "meta": {"color": role.value},
        }
        for role, figures in roles.known()
        if figures.per_class
    ]
    layout = {
        "barmode": "group",
        "bargap": 0.3,
        "xaxis": {"type": "category", "title": "class", "showgrid": False},
        "yaxis": {"title": "AP50-95", "rangemode": "tozero"},
    }
    return {**chart("classes", "Per class", note, data, layout), "wide": True}


def _against(roles: Roles) -> str:
    return "teacher" if roles.control is None else "control"


def _rates(curves: Curves) -> Chart:
    series = curves.get("student", {})
    groups = [name for name in series if name.startswith("lr/")]
    data = [
        line(name.removeprefix("lr/"), series[name], color=f"series-{number % 6 + 1}", dash=_DASHES[number % 4])
        for number, name in enumerate(groups)
    ]
    note = "By group of parameters, at the end of each epoch; the control's is the same."
    return chart(
        "lr",
        "Learning rate",
        note,
        data,
        {"yaxis": {"title": "rate", "exponentformat": "e", "rangemode": "nonnegative"}},
    )


_DASHES = ("solid", "dash", "dot", "dashdot")


def line(
    name: str,
    points: Mapping[Any, float | None],
    *,
    color: str,
    dash: str = "solid",
    marker: str | None = None,
) -> dict[str, Any]:
    """Return one curve over the steps."""
    steps: Sequence[Any] = list(points)
    few = len(steps) <= 40
    return {
        "type": "scatter",
        "mode": "lines+markers" if (marker and few) or len(steps) == 1 else "lines",
        "name": name,
        "x": steps,
        "y": list(points.values()),
        "line": {"dash": dash, "width": 2},
        "marker": {"symbol": marker or "circle", "size": 7},
        "hovertemplate": "epoch %{x}: %{y:.4g}<extra>" + name + "</extra>",
        "meta": {"color": color},
    }


def chart(name: str, title: str, note: str, data: list[dict[str, Any]], layout: Mapping[str, Any]) -> Chart:
    """Build a chart; the x axis is epochs unless *layout* overrides it."""
    steps = sorted({step for trace in data for step in trace["x"]}) if "xaxis" not in layout else []
    epochs = {"title": "epoch", "dtick": max(1, round(len(steps) / 7)), "tick0": steps[0] if steps else 1}
    return {"name": name, "title": title, "note": note, "data": data, "layout": {"xaxis": epochs, **layout}}


_MOST_TICKS = 6
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def log_axis(title: str, values: Iterable[float | None]) -> Chart:
    """Return a logarithmic axis with two decades marked at least, and nothing but decades.

    It reaches over all of *values* that a logarithm knows.
    """
    powers = [math.log10(value) for value in values if value is not None and 0 < value < math.inf]
    low, high = min(powers, default=0.0), max(powers, default=1.0)
    first, last = math.ceil(low), math.floor(high)
    while last - first < 1:
        if last + 1 - high <= low - (first - 1):
            last += 1
        else:
            first -= 1
    step = math.ceil((last - first + 1) / _MOST_TICKS)
    margin = 0.04 * (max(high, last) - min(low, first))
    return {
        "title": title,
        "type": "log",
        "range": [min(low, first) - margin, max(high, last) + margin],
        "tickmode": "array",
        "tickvals": [10.0**power for power in range(first, last + 1, step)],
        "ticktext": [_decade(power) for power in range(first, last + 1, step)],
    }


def _decade(power: int) -> str:
    if -3 <= power <= 4:
        return f"{10.0**power:.{max(0, -power)}f}"
    return "10" + str(power).translate(_RAISED)


def _ap(per_class: Mapping[str, ClassScores], name: str) -> float:
    return per_class[name].ap if name in per_class else 0.0


_SYMBOLS = {Role.TEACHER: "square", Role.CONTROL: "diamond", Role.STUDENT: "circle"}
_MOST = 30
_SERIES = 6
"""Colours that there are for classes."""
_EXPORT_SYMBOLS = ("x", "cross", "star", "triangle-up", "pentagon", "hexagram")


def comparisons(result: JobResult) -> list[Chart]:
    """Return every comparison chart that has values."""
    found = [_tradeoff(result), _sizes(result), _gains(result), _seeds(result)]
    return [drawn for drawn in found if drawn["data"]]


def precision(found: RecordedCurves) -> list[Chart]:
    """Return the chart of precision by recall, the mean over the classes."""
    dashes = {Role.STUDENT: "solid", Role.CONTROL: "dot", Role.TEACHER: "dash"}
    data = [
        {
            **line(role, _by_recall(found.networks[role].mean), color=role, dash=dash),
            "hovertemplate": "recall %{x:.2f}: precision %{y:.3f}<extra>" + role + "</extra>",
        }
        for role, dash in dashes.items()
        if role in found.networks
    ]
    note = (
        f"The mean over the classes, on {found.num_images} images, at an IoU of {found.iou}: the area below a curve is "
        "the mAP50. The page of the job has the classes one by one, and the confusion matrix."
    )
    layout = {
        "xaxis": {"title": "recall", "range": [0, 1], "dtick": 0.2},
        "yaxis": {"title": "precision", "range": [0, 1.02], "dtick": 0.2},
    }
    return [chart("precision", "Precision and recall", note, data, layout)] if data else []


def _by_recall(values: Sequence[float]) -> dict[float, float]:
    return {at / max(1, len(values) - 1): value for at, value in enumerate(values)}


def quantization(result: JobResult) -> list[Chart]:
    """Return charts of INT8 sensitivity by layer, and of the fallback."""
    ranked = [export for export in _measured(result) if export.sensitivity]
    found = [_sensitivity(ranked), _steps(ranked)]
    return [drawn for drawn in found if drawn["data"]]


def labelling(result: JobResult) -> list[Chart]:
    """Return the chart of the teacher's confidence on unlabelled images.

    It counts the boxes that the teacher found there.
    """
    found = {} if result.pseudo_labels is None else result.pseudo_labels.per_class
    shown = sorted(found, key=lambda name: -sum(found[name].histogram))[:_SERIES]
    data = [
        {
            "type": "bar",
            "name": name,
            "x": [(at + 0.5) / len(found[name].histogram) for at in range(len(found[name].histogram))],
            "y": found[name].histogram,
            "hovertemplate": "about %{x:.2f}: %{y}<extra>" + name + "</extra>",
            "meta": {"color": f"series-{number}"},
        }
        for number, name in enumerate(shown, start=1)
    ]
    layout = {"barmode": "stack", "xaxis": {"title": "score", "range": [0, 1]}, "yaxis": {"title": "boxes"}}
    which = f" The {_SERIES} classes with most boxes." if len(found) > _SERIES else ""
    note = f"From the lowest score that means something on; labels begin where the table says.{which}"
    return [{**chart("scores", "How sure the teacher was", note, data, layout), "wide": True}] if data else []


def _tradeoff(result: JobResult) -> Chart:
    """Accuracy against latency: the networks in PyTorch, and each export in its runtime."""
    data = [
        _point(role.value, figures.latency_ms.p50, figures.map, color=role.value, symbol=_SYMBOLS[role])
        for role, figures in result.roles.known()
        if figures.map is not None and figures.latency_ms is not None
    ]
    data += [
        _point(
            export.path,
            export.latency_ms.p50,
            export.map,
            color=f"series-{number % _SERIES + 1}",
            symbol=_EXPORT_SYMBOLS[number % len(_EXPORT_SYMBOLS)],
        )
        for number, export in enumerate(_measured(result))
    ]
    layout = {
        "xaxis": log_axis("latency p50, ms", [x for point in data for x in point["x"]]),
        "yaxis": {"title": "mAP50-95", "rangemode": "nonnegative"},
        "legend": {"y": -0.25, "yanchor": "top"},
    }
    note = "Up and to the left is better. Each on the device and in the runtime that its row names."
    return {**chart("tradeoff", "Accuracy against latency", note, data, layout), "wide": True, "tall": True}


def _point(name: str, x: float, y: float, *, color: str, symbol: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x],
        "y": [y],
        "marker": {"symbol": symbol, "size": 12},
        "hovertemplate": "%{x:.1f} ms, %{y:.3f}<extra>" + name + "</extra>",
        "meta": {"color": color},
    }


def _sizes(result: JobResult) -> Chart:
    roles = result.roles
    numbers = {size: found.number for size, found in roles.student.by_size.items() if found.number}
    labels = [f"{size} ({number})" for size, number in numbers.items()]
    data = [
        {
            "type": "bar",
            "name": role.value,
            "x": labels,
            "y": [figures.by_size[size].ap for size in numbers],
            "hovertemplate": "%{x}: %{y:.3f}<extra>" + role + "</extra>",
            "meta": {"color": role.value},
        }
        for role, figures in roles.known()
        if numbers and figures.by_size
    ]
    layout = {
        "barmode": "group",
        "xaxis": {"type": "category", "showgrid": False, "title": "boxes (their number)"},
        "yaxis": {"title": "AP50-95", "rangemode": "tozero"},
    }
    return chart(
        "sizes", "By object size", "Small: below 32² pixels of the original image; large: from 96² on.", data, layout
    )


def _gains(result: JobResult) -> Chart:
    """Student less control class by class, the largest difference first."""
    roles = result.roles
    other = "teacher" if roles.control is None else "control"
    student, teacher = roles.student.per_class, _compared(roles)
    gained = {name: student[name].ap - teacher[name].ap for name in student if name in teacher}
    shown = sorted(gained, key=lambda name: -abs(gained[name]))[:_MOST]
    shown.sort(key=lambda name: gained[name])
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label,
            "y": names,
            "x": [gained[name] * 100 for name in names],
            "hovertemplate": "%{y}: %{x:+.1f} points<extra></extra>",
            "meta": {"color": color},
        }
        for label, color, names in (
            ("higher", "gain", [name for name in shown if gained[name] >= 0]),
            ("lower", "loss", [name for name in shown if gained[name] < 0]),
        )
        if names
    ]
    layout = {
        "xaxis": {"title": f"points of AP50-95, student less {other}"},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": shown, "showgrid": False},
    }
    note = f"Student less {other}, class by class" + (
        f"; the {_MOST} that differ most." if len(gained) > _MOST else "."
    )
    note += " No interval is known of one class, and fewer boxes move more: read it as a hint."
    return chart("gains", "Class by class", note, data, layout)


def _seeds(result: JobResult) -> Chart:
    runs = () if result.seeds is None else result.seeds.runs
    pairs: dict[Role, dict[str, float]] = {
        Role.CONTROL: {f"seed {run.seed}": run.control.map for run in runs if run.control is not None},
        Role.STUDENT: {f"seed {run.seed}": run.student.map for run in runs},
    }
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": role.value,
            "x": list(points),
            "y": list(points.values()),
            "line": {"width": 1, "dash": "dot"},
            "marker": {"size": 10, "symbol": _SYMBOLS[role]},
            "hovertemplate": "%{x}: %{y:.3f}<extra>" + role + "</extra>",
            "meta": {"color": role.value},
        }
        for role, points in pairs.items()
        if points
    ]
    layout = {"xaxis": {"type": "category", "showgrid": False}, "yaxis": {"title": "mAP50-95"}}
    return chart(
        "seeds", "Seed by seed", "Student and control of a seed begin alike and see the same batches.", data, layout
    )


def _measured(result: JobResult) -> list[MeasuredExport]:
    return [export for export in result.exports if isinstance(export, MeasuredExport)]


def _sensitivity(exports: Sequence[MeasuredExport]) -> Chart:
    ranking = exports[0].sensitivity[::-1] if exports else ()
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": "change of the output",
            "y": [one.layer for one in ranking],
            "x": [one.error for one in ranking],
            "hovertemplate": "%{y}: %{x:.3g}<extra></extra>",
            "meta": {"color": "series-1"},
        }
    ]
    layout = {"xaxis": {"title": "change of scores and boxes"}, "yaxis": {"type": "category", "showgrid": False}}
    note = "Each layer in INT8 alone; the worst are kept in higher precision first."
    return chart("sensitivity", "What INT8 does to layers", note, data if ranking else [], layout)


def _steps(exports: Sequence[MeasuredExport]) -> Chart:
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": export.path,
            "x": [step.num_kept for step in export.steps],
            "y": [step.map_drop * 100 for step in export.steps],
            "line": {"width": 2},
            "marker": {"size": 8, "symbol": _EXPORT_SYMBOLS[number % len(_EXPORT_SYMBOLS)]},
            "hovertemplate": "%{x} layers: %{y:.2f} points<extra>" + export.path + "</extra>",
            "meta": {"color": f"series-{number % _SERIES + 1}"},
        }
        for number, export in enumerate(exports)
    ]
    layout = {"xaxis": {"title": "layers in higher precision"}, "yaxis": {"title": "points of mAP50-95 lost"}}
    return chart("fallback", "What keeping them brings", "The fallback stops within the budget.", data, layout)
