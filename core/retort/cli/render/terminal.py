"""Print on terminals and elsewhere, with nothing that a terminal obeys."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.segment import Segment
from rich.text import Text

from retort.errors import printable

_WIDE = 200
"""Columns where stdout is no terminal and COLUMNS says nothing."""


class PrintableConsole(Console):
    """Console that spells out control characters in what it shows; styles are its own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of *renderable*, without commands to the terminal in their text."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, keep="\n\t"), style, control)


def console() -> PrintableConsole:
    """Return a console on stdout; where stdout is no terminal it is plain, and wide unless COLUMNS says otherwise."""
    found = PrintableConsole(highlight=False, soft_wrap=True)
    if found.is_terminal:
        return found
    width = shutil.get_terminal_size((_WIDE, 0)).columns  # COLUMNS, if it is set
    return PrintableConsole(highlight=False, width=width, no_color=True)


def is_live(console: Console) -> bool:
    """Return True if a picture can be drawn anew in place: on a terminal that can, whatever FORCE_COLOR says."""
    isatty = getattr(console.file, "isatty", None)
    return console.is_interactive and isatty is not None and bool(isatty())


class Paragraph:
    """Text that is broken between words, also where the console leaves longer lines to the terminal."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._text.no_wrap, self._text.overflow = False, "fold"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the text by itself: a console that prints several texts makes one of them."""
        yield self._text


def paragraph(text: str | Text, style: str = "") -> Paragraph:
    """Return a paragraph of plain or styled text."""
    return Paragraph(text if isinstance(text, Text) else Text(text, style=style))


class TransferBar:
    """A progress bar for downloads, on stderr; silent where that is no terminal."""

    def __init__(self) -> None:
        console = PrintableConsole(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not is_live(console))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def of(self, name: str) -> Callable[[int, int], None]:
        """Add a line for one file; return what moves it."""
        task = self._progress.add_task(name, total=None)
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a result without tearing the bar."""
        console().print(text)


def transfer_bar() -> TransferBar:
    """Return a bar for downloads."""
    return TransferBar()
