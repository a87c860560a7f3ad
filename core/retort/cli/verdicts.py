"""How advice about teachers looks on a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from retort.spec.advised import AdviceResult, MeasuredCandidate, UnusableCandidate

_COLOURS = {"recommended": "green", "possible": "yellow", "refused": "red"}
_RIGHT = {"mAP50", "mAP50-95", "parameters", "FLOPs", "step"}


def parts(advice: AdviceResult) -> list[RenderableType]:
    """Return what there is to see: the table, the reasons, and whom to take."""
    said: list[RenderableType] = [_table(advice), ""]
    for one in advice.candidates:
        said.append(Text.assemble(one.title, " is ", (one.verdict, _COLOURS[one.verdict])))
        said += [Text(f"  {reason}") for reason in one.reasons]
    return [*said, "", Text(advice.sentence, style="bold")]


def _table(advice: AdviceResult) -> Table:
    """Student and candidates side by side."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("", "model", "mAP50", "mAP50-95", "parameters", "FLOPs", "step", "weaker in", "verdict"):
        table.add_column(column, justify="right" if column in _RIGHT else "left", no_wrap=True)
    student = advice.student
    table.add_row(
        "student", student.model, _score(student.map50), _score(student.map),
        f"{student.num_parameters:,}", "1.0 x", "1.00 x", "", "",
    )  # fmt: skip
    for one in advice.candidates:
        table.add_row(*_row(one), Text(one.verdict, style=_COLOURS[one.verdict]))
    return table


def _row(one: MeasuredCandidate | UnusableCandidate) -> tuple[str, ...]:
    if isinstance(one, UnusableCandidate):
        return (one.title, "", "", "", "", "", "", "")
    return (
        one.title, one.model, _score(one.map50), _score(one.map), f"{one.num_parameters:,}",
        f"{one.capacity.gflops:.1f} x", f"{one.step.ratio:.2f} x",
        f"{len(one.weaker_classes)} of {len(one.ap_over_student)}" if one.ap_over_student else "",
    )  # fmt: skip


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
