"""The sweep as one HTML page that needs nothing else, in light and dark, for screens of any width."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from retort.sweeps.charts import history, parallel, shorten
from retort.sweeps.sentences import sentence

_NONE = "\N{EN DASH}"
_TEMPLATES = Path(__file__).parent / "templates"


def render(sweep: Mapping[str, Any], best_spec: Mapping[str, Any] | None) -> str:
    """Return the page's HTML for a sweep as the API shows it, and the spec of its best trial."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
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
        charts=[chart for chart in (parallel(sweep), history(sweep)) if chart is not None],
        best_yaml=best_spec and yaml.safe_dump(dict(best_spec), sort_keys=False, allow_unicode=True),
        plotly=get_plotlyjs(),
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
