"""Render exports: accuracy kept, cost, and under which conditions."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from retort.cli.render.figures import score, size
from retort.cli.render.tables import FittedTable, figure
from retort.spec.exported import MeasuredExport, UnmeasuredExport
from retort.spec.figures import SpeedFigures


def export_notes(exports: Sequence[MeasuredExport | UnmeasuredExport]) -> list[str]:
    """Return a warning for each export that differs from its request, and the conditions under which others hold."""
    told = [export for export in exports if export.reason]
    warnings = [f"{one.path}: {one.reason}" + (f"\n  {one.hint}" if one.hint else "") for one in told]
    measured = [one for one in exports if isinstance(one, MeasuredExport)]
    bases = [f"{one.path}: judged {judged}" for one in measured if (judged := _judged(one))]
    aware = [f"{one.path}: {one.aware.sentence}" for one in measured if one.aware is not None]
    settings = [f"{one.path}: run by {one.runtime} on {one.settings}" for one in measured if one.settings is not None]
    return [*warnings, *bases, *aware, *settings]


def _judged(export: MeasuredExport) -> str:
    """Return in which shape an export was judged, and what PyTorch has there."""
    if export.base_map is None:
        return ""
    shape = f"at {export.shape[0]} by {export.shape[1]}" if export.shape else "in squares"
    at = f" with NMS at a score of {export.conf:g}" if export.conf is not None else ""
    free = ", without NMS" if export.boxes == "nms_free" else ""
    return f"{shape}{free}, where the student in PyTorch has {export.base_map:.4f}{at}"


def latency(figures: SpeedFigures) -> str:
    """Return the median latency; nothing where it is unknown."""
    return "" if figures.latency_ms is None else f"{figures.latency_ms.p50:.1f} ms"


def export_table(exports: Sequence[MeasuredExport | UnmeasuredExport]) -> FittedTable:
    """Return the table of exports: accuracy kept and cost."""
    table = FittedTable(
        "file", "status", figure("mAP50-95"), figure("lost", 4), figure("latency p50", 1), figure("of PyTorch", 2),
        figure("file size", 3),
    )  # fmt: skip
    for export in exports:
        table.add_row(
            export.path,
            Text(export.status, style="" if export.status == "passed" else "yellow"),
            *_kept_and_cost(export),
            "" if export.size_bytes is None else size(export.size_bytes),
        )
    return table


def _kept_and_cost(export: MeasuredExport | UnmeasuredExport) -> tuple[str, str, str, str]:
    if isinstance(export, UnmeasuredExport):
        return "", "", "", ""
    took, ratio = f"{export.latency_ms.p50:.1f} ms", f"{export.latency_ratio:.2f} x"
    return score(export.map), f"{export.map_drop * 100:+.1f}", took, ratio
