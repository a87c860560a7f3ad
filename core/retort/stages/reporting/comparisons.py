"""Charts that set networks and exports side by side: accuracy against latency, by size, by class, by layer, by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retort.stages.reporting.charts import Chart, chart

_ROLES = (("teacher", "square"), ("control", "diamond"), ("student", "circle"))
_MOST = 30
_SERIES = 6
"""Colours that there are for classes."""
_TICKS_MS = [number * 10**power for power in range(-1, 4) for number in (1, 2, 5)]


def comparisons(result: Mapping[str, Any]) -> list[Chart]:
    """Return every chart that there are values for."""
    found = [_tradeoff(result), _sizes(result), _gains(result), _seeds(result)]
    return [drawn for drawn in found if drawn["data"]]


def quantization(result: Mapping[str, Any]) -> list[Chart]:
    """Return what INT8 does to layers, and what the fallback made of it."""
    ranked = [export for export in result["exports"] if export.get("sensitivity")]
    found = [_sensitivity(ranked), _steps(ranked)]
    return [drawn for drawn in found if drawn["data"]]


def labelling(result: Mapping[str, Any]) -> list[Chart]:
    """Return how sure the teacher was of the boxes it found on images without labels."""
    found = (result.get("pseudo_labels") or {}).get("per_class", {})
    shown = sorted(found, key=lambda name: -sum(found[name]["histogram"]))[:_SERIES]
    data = [
        {
            "type": "bar",
            "name": name,
            "x": [(at + 0.5) / len(found[name]["histogram"]) for at in range(len(found[name]["histogram"]))],
            "y": found[name]["histogram"],
            "hovertemplate": "about %{x:.2f}: %{y}<extra>" + name + "</extra>",
            "meta": {"color": f"series-{number}"},
        }
        for number, name in enumerate(shown, start=1)
    ]
    layout = {"barmode": "stack", "xaxis": {"title": "score", "range": [0, 1]}, "yaxis": {"title": "boxes"}}
    which = f" The {_SERIES} classes with most boxes." if len(found) > _SERIES else ""
    note = f"From the lowest score that means something on; labels begin where the table says.{which}"
    return [{**chart("scores", "How sure the teacher was", note, data, layout), "wide": True}] if data else []


def _tradeoff(result: Mapping[str, Any]) -> Chart:
    """Accuracy against latency: the networks in PyTorch, and each export in its runtime."""
    roles = result["roles"]
    data = [
        _point(role, roles[role]["latency_ms"]["p50"], roles[role]["map"], color=role, symbol=symbol)
        for role, symbol in _ROLES
        if role in roles and roles[role]["map"] is not None
    ]
    data += [
        _point(export["path"], export["latency_ms"]["p50"], export["map"], color=f"series-{number % 6 + 1}", symbol="x")
        for number, export in enumerate(result["exports"])
        if "map" in export
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


def _sizes(result: Mapping[str, Any]) -> Chart:
    roles = result["roles"]
    numbers = {size: found["number"] for size, found in roles["student"].get("by_size", {}).items() if found["number"]}
    labels = [f"{size} ({number})" for size, number in numbers.items()]
    data = [
        {
            "type": "bar",
            "name": role,
            "x": labels,
            "y": [roles[role]["by_size"][size]["ap"] for size in numbers],
            "hovertemplate": "%{x}: %{y:.3f}<extra>" + role + "</extra>",
            "meta": {"color": role},
        }
        for role, _ in _ROLES
        if numbers and roles.get(role, {}).get("by_size")
    ]
    layout = {
        "barmode": "group",
        "xaxis": {"type": "category", "showgrid": False, "title": "boxes (their number)"},
        "yaxis": {"title": "AP50-95", "rangemode": "tozero"},
    }
    return chart(
        "sizes", "By object size", "Small: below 32² pixels of the original image; large: from 96² on.", data, layout
    )


def _gains(result: Mapping[str, Any]) -> Chart:
    """Each class's gain or loss of the student over its control, the largest first."""
    roles = result["roles"]
    other = "control" if "control" in roles else "teacher"
    ours, theirs = roles["student"]["per_class"], roles[other]["per_class"]
    gained = {name: ours[name]["ap"] - theirs[name]["ap"] for name in ours if name in theirs}
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


def _seeds(result: Mapping[str, Any]) -> Chart:
    runs = (result.get("seeds") or {}).get("runs", [])
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": role,
            "x": [f"seed {run['seed']}" for run in runs if role in run],
            "y": [run[role]["map"] for run in runs if role in run],
            "line": {"width": 1, "dash": "dot"},
            "marker": {"size": 10, "symbol": symbol},
            "hovertemplate": "%{x}: %{y:.3f}<extra>" + role + "</extra>",
            "meta": {"color": role},
        }
        for role, symbol in _ROLES
        if role != "teacher" and any(role in run for run in runs)
    ]
    layout = {"xaxis": {"type": "category", "showgrid": False}, "yaxis": {"title": "mAP50-95"}}
    return chart(
        "seeds", "Seed by seed", "Student and control of a seed begin alike and see the same batches.", data, layout
    )


def _sensitivity(exports: Sequence[Mapping[str, Any]]) -> Chart:
    ranking = exports[0]["sensitivity"][::-1] if exports else []
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": "change of the output",
            "y": [one["layer"] for one in ranking],
            "x": [one["error"] for one in ranking],
            "hovertemplate": "%{y}: %{x:.3g}<extra></extra>",
            "meta": {"color": "series-1"},
        }
    ]
    layout = {"xaxis": {"title": "change of scores and boxes"}, "yaxis": {"type": "category", "showgrid": False}}
    note = "Each layer in INT8 alone; the worst are kept in higher precision first."
    return chart("sensitivity", "What INT8 does to layers", note, data if ranking else [], layout)


def _steps(exports: Sequence[Mapping[str, Any]]) -> Chart:
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": export["path"],
            "x": [step["num_kept"] for step in export["steps"]],
            "y": [step["map_drop"] * 100 for step in export["steps"]],
            "line": {"width": 2},
            "marker": {"size": 8},
            "hovertemplate": "%{x} layers: %{y:.2f} points<extra>" + export["path"] + "</extra>",
            "meta": {"color": f"series-{number % 6 + 1}"},
        }
        for number, export in enumerate(exports)
    ]
    layout = {"xaxis": {"title": "layers in higher precision"}, "yaxis": {"title": "points of mAP50-95 lost"}}
    return chart("fallback", "What keeping them brings", "The fallback stops within the budget.", data, layout)
