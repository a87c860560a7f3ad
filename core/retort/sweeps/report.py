"""The sweep as one HTML page, with its charts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from retort.page_text import spelled
from retort.sweeps.planner import sentence
from retort.sweeps.trial_plots import plots, shorten

_NONE = "\N{EN DASH}"
_TEMPLATES = Path(__file__).parent / "templates"


@cache
def style() -> str:
    """Return the style of the page."""
    return (_TEMPLATES / "sweep.css").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """Return the page's policy: no script, and its one style by digest.

    Sandboxed, it is a page of nowhere, which reaches neither service nor network.
    """
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"sandbox allow-downloads; default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'"
    )


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
        plots=plots(sweep),
        best_yaml=best_spec and yaml.safe_dump(dict(best_spec), sort_keys=False, allow_unicode=True),
        style=Markup(style()),  # noqa: S704 - a file of ours
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
