"""The newest two generations of a file, each with its checksum, so that one of them can always be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from retort.training import durable

STATES, BESTS = "states", "weights"
"""Folders of a training."""
KEPT = 2
"""The newest, and the one before it."""
_MAGIC = b"retort-state-1 "
_HEADER = len(_MAGIC) + 64 + 1
"""Magic, SHA-256 of the rest in hex, newline."""


class Generations:
    """Numbered files ``<number>.state`` in a folder of their own, which has one writer at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, number: int, content: bytes | memoryview) -> None:
        """Write generation *number* whole and verified, then remove all but the newest two up to it.

        Raises:
            OSError: as ``durable.write``; the generations before are untouched.

        """
        header = _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n"
        durable.write(self.path(number), header, content)
        for other in [later for later in self.numbers() if later > number] + self._older(number):
            self.path(other).unlink()

    def numbers(self) -> list[int]:
        """Return the numbers of the files there are, newest first."""
        found = [int(path.stem) for path in self.folder.glob("*.state") if path.stem.isdigit()]
        return sorted(found, reverse=True)

    def read(self) -> Iterator[tuple[int, memoryview | None]]:
        """Yield number and content, newest first; the content of a damaged one is None."""
        for number in self.numbers():
            whole = memoryview(self.path(number).read_bytes())
            header, content = bytes(whole[:_HEADER]), whole[_HEADER:]
            intact = header == _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n"
            yield number, content if intact else None

    def clear(self) -> None:
        """Remove all generations."""
        for number in self.numbers():
            self.path(number).unlink()

    def path(self, number: int) -> Path:
        """Where generation *number* belongs."""
        return self.folder / f"{number:05d}.state"

    def _older(self, number: int) -> list[int]:
        return [earlier for earlier in self.numbers() if earlier <= number][KEPT:]


def movable(folder: Path) -> tuple[int, list[Path]] | None:
    """Return from which files another machine can go on with the training in *folder*, and after how many epochs.

    The newest generation, and the best networks, one of which it names.
    """
    states = Generations(folder / STATES)
    for number in states.numbers():
        return number, [states.path(number), *sorted((folder / BESTS).glob("best-*.pt"))]
    return None
