"""Lay tables out so that every figure is whole, however narrow the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from retort.errors import printable
from retort.states import JobState

COLOURS: dict[str, str] = {
    JobState.QUEUED: "yellow",
    JobState.RUNNING: "cyan",
    JobState.PAUSING: "blue",
    JobState.PAUSED: "blue",
    JobState.AWAITING_REVIEW: "yellow",
    JobState.CANCELLING: "magenta",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "magenta",
    JobState.EXPIRED: "red",
}
_GAP = 2
_READABLE = 20
"""Cells in which a text can be read, broken over several lines: before it becomes narrower, columns are left out."""
_LEAST = 8
"""Cells that a column of text keeps when it is broken over several lines."""


def state_text(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, style=COLOURS.get(state, ""))


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    """Figures stand at the right, and are never broken."""
    rank: int = 0
    """Those with the highest are left out first where there is no room; 0 stays."""


def figure(title: str, rank: int = 0) -> Column:
    """Return a column of figures."""
    return Column(title, right=True, rank=rank)


class FittedTable:
    """A table without lines that leaves columns out, or breaks texts, before it cuts a figure."""

    def __init__(self, *columns: Column | str) -> None:
        self._columns = [column if isinstance(column, Column) else Column(column) for column in columns]
        self._rows: list[tuple[list[Text], str]] = []

    @property
    def natural_width(self) -> int:
        """How wide it is with every column, and nothing broken."""
        return _total(self._widths())

    def add_row(self, *cells: str | Text | None, style: str = "") -> None:
        """Add a row; what strangers wrote in it commands no terminal."""
        assert len(cells) == len(self._columns)
        self._rows.append(([_cell(cell) for cell in cells], style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the table, and a line that names the columns for which there is no room."""
        widths = self._widths()
        shown = self._shown(widths, options.max_width)
        given = self._given({place: widths[place] for place in shown}, options.max_width)
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
        for place in shown:
            column, broken = self._columns[place], given[place] < widths[place]
            table.add_column(
                column.title, justify="right" if column.right else "left", no_wrap=not broken, overflow="fold",
                width=given[place],
            )  # fmt: skip
        for cells, style in self._rows:
            table.add_row(*(cells[place] for place in shown), style=style)
        yield table
        if left_out := [column.title for place, column in enumerate(self._columns) if place not in shown]:
            yield Text(f"no room for: {', '.join(left_out)}", style="dim", no_wrap=False, overflow="fold")

    def _widths(self) -> list[int]:
        """Return how wide each column is when nothing is broken."""
        cells = [[column.title, *(row[place].plain for row, _ in self._rows)] for place, column in self._numbered()]
        return [max(cell_len(line) for text in one for line in text.split("\n")) for one in cells]

    def _numbered(self) -> list[tuple[int, Column]]:
        return list(enumerate(self._columns))

    def _shown(self, widths: list[int], room: int) -> list[int]:
        """Return the columns for which there is room; those of rank 0 in any case."""
        shown = [place for place, _ in self._numbered()]
        needed = {
            place: widths[place] if self._columns[place].right else min(widths[place], _READABLE) for place in shown
        }
        for place in sorted(shown, key=lambda place: self._columns[place].rank, reverse=True):
            if _total(needed[kept] for kept in shown) <= room or not self._columns[place].rank:
                break
            shown.remove(place)
        return shown

    def _given(self, widths: dict[int, int], room: int) -> dict[int, int]:
        """Return the width of each column: texts become narrower, the widest first, until there is room."""
        given = dict(widths)
        texts = [place for place in given if not self._columns[place].right]
        while _total(given.values()) > room and texts:
            widest = max(texts, key=lambda place: given[place])
            if given[widest] <= _LEAST:
                break
            given[widest] -= 1
        return given


def _total(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + _GAP * (len(found) - 1)


def _cell(cell: str | Text | None) -> Text:
    if isinstance(cell, Text):
        return Text(printable(cell.plain, keep="\n"), style=cell.style)
    return Text(printable(cell or "", keep="\n"))
