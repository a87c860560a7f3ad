"""Charts that set networks and exports side by side: accuracy against latency, by size, by class, by layer, by seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retort.names import Role
from retort.spec.exported import MeasuredExport
from retort.spec.result import JobResult
from retort.stages.reporting.charts import Chart, chart

_SYMBOLS = {Role.TEACHER: "square", Role.CONTROL: "diamond", Role.STUDENT: "circle"}
_MOST = 30
_SERIES = 6
"""Colours that there are for classes."""
_TICKS_MS = [number * 10**power for power in range(-1, 4) for number in (1, 2, 5)]


def comparisons(result: JobResult) -> list[Chart]:
    """Return every chart that there are values for."""
    found = [_tradeoff(result), _sizes(result), _gains(result), _seeds(result)]
    return [drawn for drawn in found if drawn["data"]]


def quantization(result: JobResult) -> list[Chart]:
    """Return what INT8 does to layers, and what the fallback made of it."""
    ranked = [export for export in _measured(result) if export.sensitivity]
    found = [_sensitivity(ranked), _steps(ranked)]
    return [drawn for drawn in found if drawn["data"]]


def labelling(result: JobResult) -> list[Chart]:
    """Return how sure the teacher was of the boxes it found on images without labels."""
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
        if figures.map is not None
    ]
    data += [
        _point(export.path, export.latency_ms.p50, export.map, color=f"series-{number % 6 + 1}", symbol="x")
        for number, export in enumerate(result.exports)
        if isinstance(export, MeasuredExport)
    ]
    layout = {
        "xaxis": {"title": "latency p50, ms", "type": "log", "tickmode": "array", "tickvals": _TICKS_MS},
        "yaxis": {"title": "mAP50-95"},
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
    """Each class's gain or loss of the student over its control, the largest first."""
    roles = result.roles
    other = "teacher" if roles.control is None else "control"
    ours, theirs = roles.student.per_class, (roles.control or roles.teacher).per_class
    gained = {name: ours[name].ap - theirs[name].ap for name in ours if name in theirs}
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
            ("gained", "gain", [name for name in shown if gained[name] >= 0]),
            ("lost", "loss", [name for name in shown if gained[name] < 0]),
        )
        if names
    ]
    layout = {
        "xaxis": {"title": f"points of AP50-95 over the {other}"},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": shown, "showgrid": False},
    }
    note = f"Student less {other}, class by class" + (
        f"; the {_MOST} that differ most." if len(gained) > _MOST else "."
    )
    return chart("gains", "Gains and losses", note, data, layout)


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
            "marker": {"size": 8},
            "hovertemplate": "%{x} layers: %{y:.2f} points<extra>" + export.path + "</extra>",
            "meta": {"color": f"series-{number % 6 + 1}"},
        }
        for number, export in enumerate(exports)
    ]
    layout = {"xaxis": {"title": "layers in higher precision"}, "yaxis": {"title": "points of mAP50-95 lost"}}
    return chart("fallback", "What keeping them brings", "The fallback stops within the budget.", data, layout)
