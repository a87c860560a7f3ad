"""Render results: figures, exports and verdict."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from retort.cli.render.advice import advice_parts
from retort.cli.render.evaluation import evaluation_parts
from retort.cli.render.exports import export_notes, export_table, latency
from retort.cli.render.figures import score, size
from retort.cli.render.tables import Column, FittedTable, figure
from retort.cli.render.terminal import paragraph
from retort.spec.advised import AdviceResult
from retort.spec.arms import ArmFigures
from retort.spec.evaluated import EvaluationResult
from retort.spec.outcome import missing
from retort.spec.pilot import ABOUT_PILOT, PilotFigures
from retort.spec.result import JobResult, Result
from retort.spec.verdict import VerdictPart
from retort.spec.worth import WorthCheck


def result_parts(result: Result) -> list[RenderableType]:
    """Return the renderables of a result: figures, exports and verdict, or advice."""
    if isinstance(result, AdviceResult):
        return advice_parts(result)
    if isinstance(result, EvaluationResult):
        return evaluation_parts(result)
    parts: list[RenderableType] = [result_table(result), *map(note_text, measured_notes(result))]
    if result.worth is not None:
        parts += ["", worth_table(result.worth), paragraph(result.worth.sentence)]
    if result.arms:
        parts += ["", arms_table(result.arms), *(paragraph(f"- {one.sentence}") for one in result.arms)]
    if result.pilot is not None:
        parts += ["", *pilot_parts(result.pilot)]
    if result.exports:
        parts += ["", export_table(result.exports), *map(paragraph, export_notes(result.exports))]
    if lost := missing(result.extras):
        parts += [
            "",
            paragraph("Missing, without harm to the student:"),
            *(paragraph(f"  {one.sentence}") for one in lost),
        ]
    return [*parts, "", *verdict_parts(result)]


def measured_notes(result: JobResult) -> list[str]:
    """Return on what the networks were judged, what their last epochs reach, and how to repeat it."""
    student, roles = result.roles.student, result.roles.rows()
    if student.split is None:
        return []
    found = [f"judged on the {student.split} split, each image fitted into a {student.letterbox}"]
    if last := [f"{role} {score(figures.last.map)}" for role, figures in roles if figures.last is not None]:
        found.append(f"mAP50-95 of the last epoch, which nothing has chosen: {', '.join(last)}")
    if student.timed_as is not None:
        found.append(f"latency: {student.timed_as}")
    if student.command is not None:
        found.append(f"{_COMMAND}{student.command}")
    return found


_COMMAND = "the same by plain Ultralytics: "


def note_text(note: str) -> RenderableType:
    """Return a note, broken between words; one with a command stays a line that can be copied."""
    return Text(note) if note.startswith(_COMMAND) else paragraph(note)


def result_table(result: JobResult) -> FittedTable:
    """Teacher, start, student and control side by side."""
    table = FittedTable(
        "", Column("model", rank=4), figure("mAP50"), figure("mAP50-95"), figure("parameters", 2),
        figure("file size", 3), figure("latency p50", 1),
    )  # fmt: skip
    roles = result.roles
    rows = (("teacher", roles.teacher), ("start", roles.start), ("student", roles.student), ("control", roles.control))
    for role, found in rows:
        if found is not None:
            table.add_row(
                role, found.model, score(found.map50), score(found.map), f"{found.num_parameters:,}",
                size(found.size_bytes), latency(found),
            )  # fmt: skip
    return table


def arms_table(arms: Sequence[ArmFigures]) -> FittedTable:
    """Return the table of the further arms, each beside the student."""
    table = FittedTable(
        "arm",
        figure("mAP50", 2),
        figure("mAP50-95"),
        figure("student less it"),
        figure("interval"),
        figure("training", 1),
    )
    for one in arms:
        bounds = "" if one.interval is None else f"{one.interval.low * 100:+.1f} to {one.interval.high * 100:+.1f}"
        took = "" if one.training_s is None else f"{one.training_s:,.0f} s"
        table.add_row(
            one.arm, score(one.figures.map50), score(one.figures.map), f"{one.difference * 100:+.1f}", bounds, took
        )
    return table


def worth_table(worth: WorthCheck) -> FittedTable:
    """Return what the teacher could be worth by class, beside what it was."""
    table = FittedTable(
        "class", figure("teacher", 2), figure("control", 1), figure("worth at most"), figure("student less control")
    )
    ordered = sorted(worth.per_class.items(), key=lambda named: -named[1].most)
    for name, one in ordered[:MOST_CLASSES]:
        table.add_row(name, score(one.teacher), score(one.plain), *(_signed(value) for value in (one.most, one.gained)))
    left = len(ordered) - MOST_CLASSES
    table.add_row("mean" if left <= 0 else f"mean, {left} more", "", "", _signed(worth.most), _signed(worth.gained))
    return table


MOST_CLASSES = 10
"""Classes that are shown, those in which the teacher leads most first."""


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value * 100:+.1f}"


def pilot_parts(pilot: PilotFigures) -> list[RenderableType]:
    """Return the pilot's trainings side by side, and what they have decided."""
    if not pilot.arms:
        return [paragraph(pilot.sentence)]
    columns = (figure("mAP50-95"), figure("less plain"), figure("interval"), Column("what it is", rank=1))
    table = FittedTable("pilot", *columns)
    for one in pilot.arms:
        less = "" if one.difference is None else f"{one.difference * 100:+.1f}"
        bounds = "" if one.interval is None else f"{one.interval.low * 100:+.1f} to {one.interval.high * 100:+.1f}"
        table.add_row(one.arm, score(one.map), less, bounds, ABOUT_PILOT[one.arm])
    told = f"{pilot.epochs} epochs each on {pilot.num_train} training images, measured on {pilot.num_held_apart} others"
    return [table, paragraph(told), paragraph(pilot.sentence)]


def parts_table(parts: Sequence[VerdictPart]) -> list[RenderableType]:
    """Return the table of the verdict's parts, if there are any."""
    if not parts:
        return []
    table = FittedTable("brought by", figure("points"), figure("interval"), Column("difference", rank=1))
    for one in parts:
        bounds = "" if one.interval is None else f"{one.interval.low * 100:+.1f} to {one.interval.high * 100:+.1f}"
        title, pair = one.part.replace("_", "-"), f"{one.network} less {one.less}"
        table.add_row(title, f"{one.difference * 100:+.1f}", bounds, pair)
    return [table]


def verdict_parts(result: JobResult) -> list[RenderableType]:
    """Return the verdict that was stored with a result, and what puts it in its place."""
    judged = result.verdict
    if judged is None:
        return [paragraph("This result is from before a verdict was kept with it; what was measured stands above.")]
    caveats = (paragraph(f"- {caveat}") for caveat in judged.caveats)
    return [paragraph(judged.sentence, "bold"), *parts_table(judged.parts), *caveats]
