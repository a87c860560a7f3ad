"""The sweep as one HTML page, with its charts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import log10
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from retort import chart_program
from retort.page_text import for_charts, spelled
from retort.sweeps.planner import sentence

Json = Mapping[str, Any]


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


def parallel(sweep: Json) -> dict[str, Any] | None:
    """Return the parallel coordinates chart of the succeeded trials.

    Each trial is a line, coloured by its objective.
    """
    trials = [trial for trial in sweep["trials"] if trial["state"] == "succeeded" and trial["value"] is not None]
    if not trials:
        return None
    parameters, objective = sweep["spec"]["parameters"], sweep["spec"]["objective"]
    names = shorten(list(parameters))
    dimensions = [
        _dimension(name, [trial["parameters"][path] for trial in trials], domain)
        for name, (path, domain) in zip(names, parameters.items(), strict=True)
    ]
    values = [trial["value"] for trial in trials]
    low, high = _span(values)
    dimensions.append({"label": objective["metric"], "values": values, "range": [low, high]})
    trace = {
        "dimensions": dimensions,
        "line": {"color": values, "cmin": low, "cmax": high, "showscale": False},
        "meta": {"reversed": objective["goal"] == "minimize"},
    }
    note = "A line is a trial that succeeded, the more orange the better. Point at one to read its values."
    columns = len(dimensions)
    return {"name": "parallel", "title": "Parameters", "note": note, "data": [trace], "layout": {}, "columns": columns}


def history(sweep: Json) -> dict[str, Any] | None:
    """Return the chart of objective values and the best so far."""
    told = [trial for trial in sweep["trials"] if trial["value"] is not None]
    if not told:
        return None
    objective = sweep["spec"]["objective"]
    choose = max if objective["goal"] == "maximize" else min
    traces = [
        {
            "type": "scatter", "mode": "markers", "name": state,
            "x": [trial["number"] for trial in told if trial["state"] == state],
            "y": [trial["value"] for trial in told if trial["state"] == state],
            "marker": {"size": 8, "symbol": symbol}, "meta": {"color": state},
            "hovertemplate": f"trial %{{x}}: %{{y:.4f}}<extra>{state}</extra>",
        }
        for state, symbol in (("succeeded", "circle"), ("pruned", "x"), ("running", "circle-open"))
    ]  # fmt: skip
    ended = [trial for trial in told if trial["state"] == "succeeded"]
    line = {
        "type": "scatter", "mode": "lines", "name": "best so far",
        "x": [trial["number"] for trial in ended],
        "y": [choose(one["value"] for one in ended[: place + 1]) for place in range(len(ended))],
        "line": {"shape": "hv", "width": 2}, "meta": {"color": "best"}, "hoverinfo": "skip",
    }  # fmt: skip
    data = [trace for trace in (line, *traces) if trace["x"]]
    layout = {"xaxis": {"title": "trial"}, "yaxis": {"title": objective["metric"]}}
    note = "Pruned trials ended early, so their values are those of fewer epochs."
    return {"name": "history", "title": "Trials", "note": note, "data": data, "layout": layout, "columns": 0}


def _dimension(name: str, values: Sequence[Any], domain: Json) -> dict[str, Any]:
    numbers = domain["values"] or values
    if domain["log"] or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        return _categories(name, values, domain["values"]) if domain["values"] else _orders(name, values, domain)
    if domain["values"]:
        ticks = sorted(domain["values"])
        return {"label": name, "values": list(values), "range": _span(ticks), "tickvals": ticks}
    return {"label": name, "values": list(values), "range": [domain["min"], domain["max"]]}


def _categories(name: str, values: Sequence[Any], known: Sequence[Any]) -> dict[str, Any]:
    """Return an axis with a place for each value."""
    texts = [value if isinstance(value, str) else json.dumps(value) for value in known]
    short = [text if len(text) <= 18 else f"{text[:17]}\N{HORIZONTAL ELLIPSIS}" for text in texts]
    places = [known.index(value) for value in values]
    axis = {"tickvals": list(range(len(known))), "ticktext": short, "range": [-0.2, len(known) - 0.8]}
    return {"label": name, "values": places, **axis}


def _orders(name: str, values: Sequence[float], domain: Json) -> dict[str, Any]:
    """Return an axis of orders of magnitude."""
    low, high = log10(domain["min"]), log10(domain["max"])
    ticks = [low + (high - low) * part / 4 for part in range(5)]
    texts = [f"{10**tick:.2g}" for tick in ticks]
    return {
        "label": name, "values": [log10(value) for value in values], "range": [low, high],
        "tickvals": ticks, "ticktext": texts,
    }  # fmt: skip


def _span(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    around = 0.0 if low < high else max(abs(low) * 0.1, 0.01)
    return [low - around, high + around]


_NONE = "\N{EN DASH}"
_TEMPLATES = Path(__file__).parent / "templates"


def render(sweep: Mapping[str, Any], best_spec: Mapping[str, Any] | None) -> str:
    """Return the HTML page of a sweep, with its best spec.

    *sweep* is a sweep as the API shows it; *best_spec* is the spec of its best trial.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=spelled,
    )
    environment.filters.update(number=_number, text=_text)
    paths = list(sweep["spec"]["parameters"])
    goal = sweep["spec"]["objective"]["goal"]
    trials = sorted(sweep["trials"], key=lambda trial: _rank(trial, goal))
    return environment.get_template("sweep.html").render(
        sweep=sweep,
        sentence=sentence(sweep),
        objective=sweep["spec"]["objective"],
        names=dict(zip(paths, shorten(paths), strict=True)),
        trials=trials,
        charts=for_charts(chart for chart in (parallel(sweep), history(sweep)) if chart is not None),
        best_yaml=best_spec and yaml.safe_dump(dict(best_spec), sort_keys=False, allow_unicode=True),
        plotly=chart_program.embedded(),
        drawing=chart_program.drawing("sweep"),
    )


def _rank(trial: Mapping[str, Any], goal: str) -> tuple[Any, ...]:
    """Put the best first, then those without a value."""
    order = ("succeeded", "running", "queued", "pruned", "cancelled", "failed")
    value = trial["value"]
    if trial["state"] != "succeeded" or value is None:
        return (1, order.index(trial["state"]), trial["number"])
    return (0, -value if goal == "maximize" else value, trial["number"])


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def _text(value: Any) -> str:
    """Show a parameter's value in few characters."""
    if isinstance(value, float):
        return f"{value:.4g}" if not value.is_integer() else f"{value:.1f}" if abs(value) < 1e6 else f"{value:.4g}"
    shown = value if isinstance(value, str) else json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}\N{HORIZONTAL ELLIPSIS}"
