"""Render jobs, events, results and advice on a terminal."""

from __future__ import annotations

from retort.cli.render.comparison import comparison_parts
from retort.cli.render.events import SHOWN_METRICS, epochs_of, event_line, metric_text
from retort.cli.render.exports import export_notes, export_table
from retort.cli.render.figures import clock, duration, score, share, short, size, sparkline
from retort.cli.render.jobs import failure_text, job_page, jobs_table, waiting_text
from retort.cli.render.overview import overview
from retort.cli.render.results import result_parts, result_table
from retort.cli.render.tables import COLOURS, Column, FittedTable, figure, state_text
from retort.cli.render.terminal import PrintableConsole, console, is_live, paragraph, transfer_bar
from retort.cli.render.watching import Board, Lines, screen
from retort.cli.render.workers import devices_text, workers_page

__all__ = [
    "COLOURS", "SHOWN_METRICS", "Board", "Column", "FittedTable", "Lines", "PrintableConsole", "clock",
    "comparison_parts", "console", "devices_text", "duration", "epochs_of", "event_line", "export_notes",
    "export_table", "failure_text", "figure", "is_live", "job_page", "jobs_table", "metric_text", "overview",
    "paragraph", "result_parts", "result_table", "score", "screen", "share", "short", "size", "sparkline", "state_text",
    "transfer_bar", "waiting_text", "workers_page",
]  # fmt: skip
