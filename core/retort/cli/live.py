"""Follow a job on a terminal: a live board where there is one, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from retort.cli import view
from retort.cli.output import emit_line
from retort.names import MAP, MAP50

Json = Mapping[str, Any]


class Screen(Protocol):
    """Where a job is shown while it goes on."""

    def show(self, job: Json, events: Iterable[Json]) -> None:
        """Show the job as it stands, and what has happened since the last time."""


class JsonLines:
    """Each event on a line of its own."""

    def show(self, job: Json, events: Iterable[Json]) -> None:  # noqa: ARG002 - programs get the job at the end
        """Print the events."""
        for event in events:
            emit_line(event)


class Lines:
    """Each event as a readable line, with the progress beside it."""

    def show(self, job: Json, events: Iterable[Json]) -> None:
        """Print the events that say something."""
        for event in events:
            if line := view.event_line(event):
                eta = view.duration(job.get("eta_s"), "to go")
                typer.echo(f"{line}  [{view.share(job.get('progress'))} {eta}".rstrip() + "]")


class Board:
    """A live picture: progress, time to go, and the latest figures of teacher, student and control."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._epochs: dict[str, int] = {}
        self._values: dict[str, dict[str, float | None]] = {}

    def show(self, job: Json, events: Iterable[Json]) -> None:
        """Take in the events, and draw."""
        for event in events:
            data = event.get("data") or {}
            if event["type"] == "metric":
                self._epochs[data["role"]] = data["step"]
                self._values.setdefault(data["role"], {}).update(data["values"])
            elif event["type"] != "progress" and (line := view.event_line(event)):
                self._live.console.print(Text(line, style="dim"))
        self._live.update(self._picture(job), refresh=True)

    def _picture(self, job: Json) -> RenderableType:
        progress = job.get("progress") or 0.0
        head = Text.assemble(
            (f"{job['name']}  ", "bold"), (job["state"], view.COLOURS.get(job["state"], "")),
            f"  {job.get('stage') or ''}  {view.share(progress)}  {view.duration(job.get('eta_s'), 'to go')}",
        )  # fmt: skip
        bar = Table.grid()  # a bar by itself does not end its line
        bar.add_row(ProgressBar(total=1.0, completed=progress, width=60))
        return Group(head, bar, self._figures())

    def _figures(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        columns = {MAP50: "mAP50", MAP: "mAP50-95"} | {
            name: name.removeprefix("train/")
            for values in self._values.values()
            for name in values
            if name.startswith("train/") and (name.endswith("loss") or name.startswith("train/kd/"))
        }
        for title in ("", "epoch", *columns.values()):
            table.add_column(title, justify="right" if title else "left")
        for role, values in self._values.items():
            table.add_row(role, str(self._epochs[role]), *(view.score(values.get(name)) for name in columns))
        return table


@contextmanager
def screen(*, as_json: bool) -> Iterator[Screen]:
    """Choose how to show a job, and put the terminal back at the end."""
    console = Console(highlight=False)
    if as_json:
        yield JsonLines()
    elif not console.is_terminal:
        yield Lines()
    else:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            yield Board(live)
