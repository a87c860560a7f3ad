"""Render jobs beside each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from retort.cli.render.figures import duration, score, size
from retort.cli.render.tables import Column, FittedTable, figure, state_text
from retort.cli.render.terminal import paragraph
from retort.report.comparison import ComparedClass, ComparedJob, DifferingField, JobComparison

LETTERS = "ABCDEF"
"""By which the columns name the jobs."""
_MOST_CLASSES = 20


def comparison_parts(found: JobComparison) -> list[RenderableType]:
    """Return jobs, figures, differing fields and classes, each as a table."""
    letters = LETTERS[: len(found.jobs)]
    parts: list[RenderableType] = [_legend(found.jobs), *_figures(found.jobs, letters), *_verdicts(found.jobs)]
    if not found.same_images:
        parts.append(
            paragraph("They were measured on different images: figures of one say nothing about another's.", "yellow")
        )
    parts += ["", *_fields(found.fields, letters)]
    return [*parts, *_classes(found.classes, letters)]


def _legend(jobs: Sequence[ComparedJob]) -> FittedTable:
    table = FittedTable("", "job", "name", "state")
    for letter, job in zip(LETTERS, jobs, strict=False):
        table.add_row(letter, job.id[-12:], job.name, state_text(job.state))
    return table


def _figures(jobs: Sequence[ComparedJob], letters: str) -> list[RenderableType]:
    """Return the table of figures, if any are known, one row each: at 80 columns six jobs are read."""
    table = FittedTable("", *map(figure, letters))
    rows = {
        "mAP50-95": [score(job.map) for job in jobs],
        "mAP50": [score(job.map50) for job in jobs],
        "teacher": [score(job.teacher_map) for job in jobs],
        "control": [score(job.control_map) for job in jobs],
        "student less control, points": [_points(job) for job in jobs],
        "interval, from": [_bound(job, "low") for job in jobs],
        "interval, to": [_bound(job, "high") for job in jobs],
        "parameters": ["" if job.num_parameters is None else f"{job.num_parameters / 1e6:.2f} M" for job in jobs],
        "file size": ["" if job.size_bytes is None else size(job.size_bytes) for job in jobs],
        "latency p50": ["" if job.latency_ms is None else f"{job.latency_ms:.1f} ms" for job in jobs],
        "took": [duration(job.duration_s) for job in jobs],
    }
    known = {title: cells for title, cells in rows.items() if any(cells)}
    for title, cells in known.items():
        table.add_row(title, *cells)
    return ["", table] if known else []


def _points(job: ComparedJob) -> str:
    known = job.verdict is not None and job.verdict.difference is not None
    return f"{job.verdict.difference * 100:+.1f}" if known else ""  # type: ignore[union-attr, operator]


def _bound(job: ComparedJob, end: str) -> str:
    interval = None if job.verdict is None else job.verdict.interval
    return "" if interval is None else f"{getattr(interval, end) * 100:+.1f}"


def _verdicts(jobs: Sequence[ComparedJob]) -> list[RenderableType]:
    told: list[RenderableType] = []
    for letter, job in zip(LETTERS, jobs, strict=False):
        if job.verdict is not None:
            told.append(paragraph(f"{letter}: {job.verdict.sentence}"))
        elif not job.is_final:
            what = "it has no figures yet" if job.map is None else "figures are of its best epoch so far"
            told.append(paragraph(f"{letter}: {job.state}; {what}", "dim"))
    if any(job.verdict is not None for job in jobs):
        between = "Intervals are of student less control in one job; between jobs none is known."
        told.append(paragraph(between, "dim"))
    return ["", *told] if told else []


def _fields(fields: Sequence[DifferingField], letters: str) -> list[RenderableType]:
    if not fields:
        return [Text("Their specs are the same.")]
    table = FittedTable("differs in", *(Column(letter) for letter in letters))
    for one in fields:
        table.add_row(one.path, *map(_value, one.values))
    return [table]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _classes(classes: Sequence[ComparedClass], letters: str) -> list[RenderableType]:
    """Return the table of classes, those with the largest differences first."""
    if not classes:
        return []
    table = FittedTable("mAP50-95 by class", *map(figure, letters))
    for one in classes[:_MOST_CLASSES]:
        first, *others = one.values
        table.add_row(one.name, score(first), *(_beside(value, first) for value in others))
    more = len(classes) - _MOST_CLASSES
    rest = [Text(f"and {more} classes with smaller differences; --json has all", style="dim")] if more > 0 else []
    return ["", table, *rest]


def _beside(value: float | None, first: float | None) -> str:
    if value is None or first is None:
        return score(value)
    return f"{value:.4f} {(value - first) * 100:+.1f}"
