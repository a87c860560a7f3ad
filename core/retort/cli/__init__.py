"""The command line: ``retort``."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    from retort.cli.app import start

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that a console or a pipe lacks is spelt out
            stream.reconfigure(errors="backslashreplace")
    sys.exit(start(sys.argv[1:]))
