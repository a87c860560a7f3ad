"""The command line: ``retort``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    from retort.cli.app import start

    sys.exit(start(sys.argv[1:]))
