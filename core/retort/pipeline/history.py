"""Metrics and training curves of all attempts of a job, from their journals."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from retort import files
from retort.protocol import journal
from retort.protocol.events import MetricEvent
from retort.spec.report import Curve

FOLDER = "history"
"""Excerpts of journals, each complete and never changed: ``<began>-<attempt>-<lines>.jsonl``."""
_KEPT = (b'"type":"metric"', b'"type":"health"')
_VERSIONS = 2
"""The newest, and the one before it, which may be being copied."""


def attempts(workdir: Path) -> list[Path]:
    """Return the journal of each attempt, the first attempt first.

    It is the journal, or the newest excerpt of it.
    """
    found = {_attempt(path): path for path in _excerpts(workdir)}
    found |= {name: path for path in workdir.glob("journal-*.jsonl") if (name := _began(path)) is not None}
    return [found[name] for name in sorted(found)]


def keep(workdir: Path) -> list[str]:
    """Write excerpts of the journals in *workdir*; return the newest.

    There is one of each attempt, relative to *workdir*. A disk that is full is no error: the excerpts that there are
    have to do.
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
    files.atomic_write(path, *lines)
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


Curves = dict[str, dict[str, dict[int, float | None]]]
"""Values by role, name and step; steps ascend."""


def curves(workdir: Path) -> Curves:
    """Read the metrics of all attempts.

    Where two measured the same step, the later attempt counts.
    """
    found: Curves = {}
    for path in attempts(workdir):
        for event in journal.read(path)[0]:
            if isinstance(event, MetricEvent):
                for name, value in event.values.items():
                    found.setdefault(str(event.role), {}).setdefault(name, {})[event.step] = value
    return {
        role: {name: dict(sorted(points.items())) for name, points in sorted(series.items())}
        for role, series in sorted(found.items())
    }


def listed(found: Curves) -> dict[str, dict[str, Curve]]:
    """Return the curves as JSON lists ``step`` and ``value``.

    Both lists have the same length.
    """
    return {
        role: {name: Curve(step=tuple(points), value=tuple(points.values())) for name, points in series.items()}
        for role, series in found.items()
    }
