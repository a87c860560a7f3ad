"""What attempts have measured, also those that ran on another machine: their journals stay where they were written."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from retort.training import durable

FOLDER = "history"
"""Excerpts of journals, each complete and never changed: ``<began>-<attempt>-<lines>.jsonl``."""
_KEPT = (b'"type":"metric"', b'"type":"health"')
_VERSIONS = 2
"""The newest, and the one before it, which may be being copied."""


def attempts(workdir: Path) -> list[Path]:
    """Return what each attempt has said, the first one first: its journal, or the newest excerpt of it."""
    found = {_attempt(path): path for path in _excerpts(workdir)}
    found |= {name: path for path in workdir.glob("journal-*.jsonl") if (name := _began(path)) is not None}
    return [found[name] for name in sorted(found)]


def keep(workdir: Path) -> list[str]:
    """Write excerpts of the journals in *workdir*, and return the newest of each attempt, relative to it.

    A disk that is full is no error: the excerpts that there are have to do.
    """
    with contextlib.suppress(OSError):
        for path in workdir.glob("journal-*.jsonl"):
            if (name := _began(path)) is not None:
                _excerpt(path, workdir / FOLDER, name)
    newest = {_attempt(path): path for path in _excerpts(workdir)}
    return [path.relative_to(workdir).as_posix() for path in newest.values()]


def _excerpt(journal: Path, folder: Path, name: str) -> None:
    lines = [line for line in journal.read_bytes().splitlines(keepends=True) if any(kind in line for kind in _KEPT)]
    path = folder / f"{name}-{len(lines):07d}.jsonl"
    if not lines or path.exists():
        return
    durable.write(path, *lines)
    for old in sorted(folder.glob(f"{name}-*.jsonl"))[:-_VERSIONS]:
        old.unlink()


def _excerpts(workdir: Path) -> list[Path]:
    """Return all excerpts, of each attempt the newest last."""
    return sorted((workdir / FOLDER).glob("*.jsonl"))


def _attempt(excerpt: Path) -> str:
    return excerpt.stem.rpartition("-")[0]


def _began(journal: Path) -> str | None:
    """Name the attempt by when it began and its number: a job that goes on from another's files counts anew."""
    with journal.open("rb") as file:
        first = file.readline()
    if not first.endswith(b"\n"):
        return None
    began_ms = round(json.loads(first)["at"] * 1000)
    return f"{began_ms:013d}-{int(journal.stem.removeprefix('journal-')):04d}"
