"""Render evaluations of networks."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from retort.cli.render.exports import export_notes, export_table, latency
from retort.cli.render.figures import score
from retort.cli.render.tables import FittedTable, figure
from retort.cli.render.terminal import paragraph
from retort.spec.evaluated import EvaluationResult


def evaluation_parts(result: EvaluationResult) -> list[RenderableType]:
    """Return the table of networks, how each differs from the first, and the lines that give the same figures."""
    table = FittedTable(
        "network", figure("mAP50"), figure("mAP50-95"), figure("small", 3), figure("medium", 3), figure("large", 3),
        figure("parameters", 2), figure("latency p50", 1), figure("px", 4),
    )  # fmt: skip
    for one in result.networks:
        sizes = [one.by_size[size].ap if size in one.by_size else None for size in ("small", "medium", "large")]
        table.add_row(
            one.title, score(one.map50), score(one.map), *map(score, sizes),
            f"{one.num_parameters:,}", latency(one), str(one.imgsz),
        )  # fmt: skip
    first = result.networks[0]
    parts: list[RenderableType] = [
        table,
        paragraph(f"\non {result.num_images} images of the {first.split or 'val'} split"),
    ]
    parts += [paragraph(f"latency: {first.timed_as}")] if first.timed_as else []
    parts += [paragraph(one.sentence, "bold") for one in result.differences]
    if result.exports:
        parts += ["", export_table(result.exports), *map(paragraph, export_notes(result.exports))]
    commands = [one.command for one in result.networks if one.command]
    return [*parts, *([Text("the same figures by plain Ultralytics:"), *map(Text, commands)] if commands else [])]
