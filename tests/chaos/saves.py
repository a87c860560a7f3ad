"""States that are being written when their writer is killed, or the disk has no more room."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import tempfile
import time
from pathlib import Path

from chaos.table import Line, say
from retort import files
from retort.training import environment

environment.prepare(Path(tempfile.mkdtemp(prefix="retort-chaos-")))  # before Ultralytics, which the next line brings

from retort.training.checkpoint import CheckpointStore  # noqa: E402

SIZE = 3_000_000


def measure(folder: Path, *, times: int, seed: int) -> tuple[int, int, int]:
    """Interrupt *times* savings; return how many by a kill, by a full disk, and how often no confirmed was left."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    killed = full = bad = 0
    for number in range(times):
        states = folder / f"{number % 50}"
        by_kill = draw.random() < 0.6
        confirmed = _interrupt(states, draw, by_kill=by_kill)
        killed, full = killed + by_kill, full + (not by_kill)
        whole = [found for found, content in CheckpointStore(states).read() if content is not None]
        bad += max(whole, default=0) < confirmed
    say(f"saves: {killed} kills, {full} full disks, {bad} unloadable")
    return killed, full, bad


def _interrupt(states: Path, draw: random.Random, *, by_kill: bool) -> int:
    """Let a process write generations until it dies or its disk is full; return the last that it had confirmed."""
    reader, writer = os.pipe()
    pause_s, room = draw.uniform(0.005, 0.12), draw.randrange(1, SIZE)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            _write(CheckpointStore(states), writer, None if by_kill else room)
        os._exit(0)
    os.close(writer)
    if by_kill:
        time.sleep(pause_s)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        lines = told.read().split()
    return int(lines[-1]) if lines else 0


def _write(generations: CheckpointStore, told: int, room: int | None) -> None:
    """Write one state after the other, and say which are done; with *room*, the third does not fit on the disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    files.sweep(generations.folder)
    first = max(generations.numbers(), default=0) + 1
    for number in range(first, first + 1000):
        if room is not None and number == first + 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        generations.write(number, os.urandom(SIZE))
        os.write(told, f"{number}\n".encode())


def lines(killed: int, full: int, bad: int) -> list[Line]:
    """Return the line of the table."""
    return [
        Line(
            f"kill ({killed}) or disk full ({full}) during save: unloadable latest verified checkpoints",
            str(bad), "0", not bad,
        )
    ]  # fmt: skip
