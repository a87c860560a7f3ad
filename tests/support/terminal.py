"""Run a command in a pseudo-terminal, and read what its screen shows in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_PATIENCE_S = 60.0
Answers = Callable[[str], "bytes | signal.Signals | None"]
_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b.|\r|\n|[^\x1b\r\n]+", re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """What a terminal has shown."""

    code: int
    raw: str
    lines: list[str]
    """All lines in the end, those that have scrolled out of sight too."""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def in_terminal(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    columns: int = 80,
    rows: int = 30,
    answers: Answers = lambda _: None,
) -> Shown:
    """Run *command*; *answers* is asked, whenever it prints, for what is typed then, or sent as a signal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    given = {**env, "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        given.pop(name, None)

    with subprocess.Popen(
        command, env=given, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            raw = _read(ours, answers, process)
            code = process.wait(30)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            os.close(ours)
    return Shown(code, raw, _screen(raw, columns))


def _read(ours: int, answers: Answers, process: subprocess.Popen[bytes]) -> str:
    raw, deadline = b"", time.monotonic() + _PATIENCE_S
    while True:
        assert time.monotonic() < deadline, f"not at its end within {_PATIENCE_S} s"
        ready, _, _ = select.select([ours], [], [], _PATIENCE_S)
        assert ready, f"silent for {_PATIENCE_S} s after {raw.decode(errors='replace')[-500:]}"
        try:
            found = os.read(ours, 65536)
        except OSError:  # the other side has gone
            found = b""
        if not found:
            return raw.decode(errors="replace")
        raw += found
        typed = answers(raw.decode(errors="replace"))
        if isinstance(typed, signal.Signals):
            process.send_signal(typed)
        elif typed is not None:
            os.write(ours, typed)


def _screen(raw: str, columns: int) -> list[str]:
    """Play what was written; a line that is too long is broken, as a terminal does it."""
    lines, row, column = [""], 0, 0
    for token in _TOKEN.finditer(raw):
        text, (argument, command) = token[0], token.groups()
        if text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif command == "A":
            row = max(0, row - int(argument or 1))
        elif command == "K":
            lines[row] = "" if argument == "2" else lines[row][:column]
        elif not text.startswith("\x1b"):
            for character in text:
                if column == columns:
                    row, column = row + 1, 0
                    lines += [""] * (row + 1 - len(lines))
                lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
                column += 1
    return [line.rstrip() for line in lines]
