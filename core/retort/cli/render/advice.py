"""Render advice on teachers."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from retort.cli.render.figures import score
from retort.cli.render.tables import Column, FittedTable, figure
from retort.cli.render.terminal import paragraph
from retort.spec.advised import AdviceResult, MeasuredCandidate, UnusableCandidate

_COLOURS = {"recommended": "green", "possible": "yellow", "refused": "red"}


def advice_parts(advice: AdviceResult) -> list[RenderableType]:
    """Return the table, the reasons and the recommendation."""
    said: list[RenderableType] = [_advice_table(advice), ""]
    for one in advice.candidates:
        said.append(Text.assemble(one.title, " is ", (one.verdict, _COLOURS[one.verdict])))
        said += [paragraph(f"  {reason}") for reason in one.reasons]
    return [*said, "", paragraph(advice.sentence, "bold")]


def _advice_table(advice: AdviceResult) -> FittedTable:
    """Student and candidates side by side."""
    table = FittedTable(
        "", Column("model", rank=4), figure("mAP50", 3), figure("mAP50-95"), figure("parameters", 5),
        figure("FLOPs", 2), figure("step", 1), figure("worth at most"), Column("weaker in", rank=1), "verdict",
    )  # fmt: skip
    student = advice.student
    table.add_row(
        "student", student.model, score(student.map50), score(student.map),
        f"{student.num_parameters:,}", "1.0 x", "1.00 x", "", "", "",
    )  # fmt: skip
    if (plain := student.plain) is not None:
        alone = f"student, {plain.epochs} epoch{'s' if plain.epochs > 1 else ''}"
        table.add_row(alone, student.model, score(plain.map50), score(plain.map), "", "", "", "", "", "")
    for one in advice.candidates:
        table.add_row(*_advice_row(one), Text(one.verdict, style=_COLOURS[one.verdict]))
    return table


def _advice_row(one: MeasuredCandidate | UnusableCandidate) -> tuple[str, ...]:
    if isinstance(one, UnusableCandidate):
        return (one.title, "", "", "", "", "", "", "", "")
    return (
        one.title, one.model, score(one.map50), score(one.map), f"{one.num_parameters:,}",
        f"{one.capacity.gflops:.1f} x" if one.capacity.gflops else "", f"{one.step.ratio:.2f} x",
        "" if one.worth is None else f"{one.worth.most * 100:+.1f}",
        f"{len(one.weaker_classes)} of {len(one.ap_over_student)}" if one.ap_over_student else "",
    )  # fmt: skip
