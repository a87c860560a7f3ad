"""Render the report as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from retort import chart_program
from retort.page_text import for_charts, spelled
from retort.report.forms import described
from retort.report.health import HealthReport
from retort.report.samples import STYLES, Gallery
from retort.report.usage import Usage
from retort.spec.arms import ABOUT
from retort.spec.exported import MeasuredExport
from retort.spec.outcome import missing
from retort.spec.pilot import ABOUT_PILOT, RULE
from retort.spec.report import Manifest
from retort.spec.result import JobResult
from retort.spec.verdict import Verdict

_NONE = "\N{EN DASH}"
_TEMPLATES = Path(__file__).parent / "templates"


def render(
    *,
    name: str,
    judged: Verdict,
    result: JobResult,
    charts: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    quantization: Sequence[Mapping[str, Any]],
    labelling: Sequence[Mapping[str, Any]],
    ecg: HealthReport,
    gallery: Gallery,
    usage: Usage,
    manifest: Manifest | None,
    spec: Mapping[str, Any],
) -> str:
    """Return the report page's HTML."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            name=name,
            verdict=judged,
            result=result,
            roles=result.roles.rows(),
            about=ABOUT,
            about_pilot=ABOUT_PILOT,
            rule=RULE,
            missing=missing(result.extras),
            exports=[(export, export if isinstance(export, MeasuredExport) else None) for export in result.exports],
            described=described,
            charts=for_charts(charts),
            comparisons=for_charts(comparisons),
            quantization=for_charts(quantization),
            labelling=for_charts(labelling),
            ecg=replace(ecg, charts=tuple(for_charts(ecg.charts))),
            gallery=gallery,
            styles=STYLES,
            usage=usage,
            manifest=manifest,
            spec_yaml=yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True),
            plotly=chart_program.embedded(),
            plotly_styles=chart_program.styles(),
            drawing=chart_program.drawing("report"),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=spelled,
    )
    environment.filters.update(percent=_percent, number=_number, size=_size, duration=_duration)
    return environment


def _percent(value: float | None, *, signed: bool = False) -> str:
    """Show a share (0 to 1) in points of a hundred; 0.4567 is 45.7."""
    if value is None:
        return _NONE
    return f"{value * 100:+.1f}".replace("-", "\N{MINUS SIGN}") if signed else f"{value * 100:.1f}"


def _number(value: float | None, digits: int = 1) -> str:
    return _NONE if value is None else f"{value:,.{digits}f}"


def _size(value: float | None) -> str:
    return _NONE if value is None else f"{value / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
