"""Show a job while it runs: a board on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from retort.cli.options import emit, say
from retort.cli.render.events import SHOWN_METRICS, event_line
from retort.cli.render.figures import duration, score, share, sparkline
from retort.cli.render.jobs import waiting_text
from retort.cli.render.tables import COLOURS
from retort.cli.render.terminal import PrintableConsole, is_live
from retort.constants import MAP, MAP50, Role

Json = Mapping[str, Any]


class Screen(Protocol):
    """Display of a running job."""

    def show(self, job: Json, events: Iterable[Json]) -> None:
        """Show the job as it stands, and what has happened since the last time."""


class JsonLines:
    """Print each event as one JSON line."""

    def show(self, job: Json, events: Iterable[Json]) -> None:  # noqa: ARG002 - programs get the job at the end
        """Print the events."""
        for event in events:
            emit(event)


class Lines:
    """Each event as a readable line, with the progress beside it, and for what the job waits when that changes."""

    def __init__(self, epochs: int | None) -> None:
        self._epochs = epochs
        self._waits: tuple[Any, ...] = ()

    def show(self, job: Json, events: Iterable[Json]) -> None:
        """Print the events that say something."""
        for event in events:
            if line := event_line(event, self._epochs, job.get("id")):
                eta = duration(job.get("eta_s"), "to go")
                say(f"{line}  [{share(job.get('progress'))} {eta}".rstrip() + "]")
        queue = job.get("queue") or {}
        waits = (job["state"], *(queue.get(name) for name in ("reason", "ahead", "until", "message")))
        if waits != self._waits and (told := waiting_text(job)):
            say(f"waits: {told}")
        self._waits = waits


class Board:
    """A live picture: progress, time to go, the latest figures of each network, and the student's course."""

    def __init__(self, live: Live, epochs: int | None) -> None:
        self._live = live
        self._planned = epochs
        self._epochs: dict[str, int] = {}
        self._values: dict[str, dict[str, float | None]] = {}
        self._course: dict[int, float] = {}
        """The student's mAP50-95 by epoch; an epoch that was trained anew counts as it was the last time."""

    def show(self, job: Json, events: Iterable[Json]) -> None:
        """Take in the events, and draw."""
        for event in events:
            data = event.get("data") or {}
            if event["type"] == "metric":
                self._take(data["role"], data["step"], data["values"])
            elif line := event_line(event, self._planned, job.get("id")):
                self._live.console.print(Text(line, style="dim"))
        self._live.update(self._picture(job), refresh=True)

    def _take(self, role: str, step: int, values: dict[str, float | None]) -> None:
        self._epochs[role] = step
        self._values.setdefault(role, {}).update(values)
        if role == Role.STUDENT and (reached := values.get(MAP)) is not None:
            self._course[step] = reached

    def _picture(self, job: Json) -> RenderableType:
        progress = job.get("progress") or 0.0
        head = Text.assemble(
            (f"{job['name']}  ", "bold"), (job["state"], COLOURS.get(job["state"], "")),
            f"  {job.get('stage') or ''}  {share(progress)}  {duration(job.get('eta_s'), 'to go')}",
        )  # fmt: skip
        bar = Table.grid()  # a bar by itself does not end its line
        bar.add_row(ProgressBar(total=1.0, completed=progress, width=min(60, self._live.console.width)))
        waits = waiting_text(job)
        parts = [Text(f"waits: {waits}")] if waits else []
        figures = [self._figures()] if self._values else []
        return Group(head, bar, *parts, *figures, *self._curve())

    def _curve(self) -> list[Text]:
        """Return the course of the student's mAP50-95 in one line, and its best epoch."""
        if len(self._course) < 2:
            return []
        best = max(self._course, key=lambda epoch: (self._course[epoch], epoch))
        before, after = "student's mAP50-95  ", f"  best {score(self._course[best])} at epoch {best}"
        console = self._live.console
        values = [self._course[epoch] for epoch in sorted(self._course)]
        room = min(_LONGEST_CURVE, console.width - len(before) - len(after))
        drawn = sparkline(values, room, ascii_only=console.options.ascii_only) if room > 0 else ""
        return [Text.assemble((before, "dim"), (drawn, "cyan"), (after, "dim"))]

    def _figures(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        columns = self._columns(self._live.console.width)
        for title in ("", "epoch", *columns.values()):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        for role, values in self._values.items():
            planned = f" of {self._planned}" if self._planned and role != Role.TEACHER else ""
            figures = (score(values.get(name)) for name in columns)
            table.add_row(role, f"{self._epochs[role]}{planned}", *figures)
        return table

    def _columns(self, width: int) -> dict[str, str]:
        """Return the metrics that fit beside each other whole, by name, the most important first."""
        losses = {name: SHOWN_METRICS.get(name, name.removeprefix("train/")) for name in self._names()}
        left = width - _ROLE_WIDTH
        shown: dict[str, str] = {}
        for name, title in {**SHOWN_METRICS, **losses}.items():
            left -= max(len(title), _SCORE_WIDTH) + 2
            if left < 0:
                break
            if name in {MAP50, MAP} or name in losses:
                shown[name] = title
        return shown

    def _names(self) -> list[str]:
        """Return the losses that have been measured, whole before their parts."""
        found = {name for values in self._values.values() for name in values}
        losses = [name for name in found if name.startswith("train/") and name.endswith("loss")]
        return [*sorted(losses), *sorted(name for name in found if name.startswith("train/kd/"))]


_ROLE_WIDTH = len("teacher  999 of 999  ")
_SCORE_WIDTH = len("0.1234")
_LONGEST_CURVE = 48


@contextmanager
def screen(*, as_json: bool, epochs: int | None = None) -> Iterator[Screen]:
    """Choose how to show a job of so many *epochs*, and put the terminal back at the end."""
    console = PrintableConsole(highlight=False)
    if as_json:
        yield JsonLines()
    elif not is_live(console):
        yield Lines(epochs)
    else:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            yield Board(live, epochs)
