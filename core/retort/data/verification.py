"""Verify that a run's images and weights are still those that intake saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from retort.errors import DataChanged, TransientError
from retort.files import atomic_write, sha256_of
from retort.images import ImageFacts

FILE = "intake.json"
"""In the workdir: what intake saw of each file that a run reads where it lies."""
COPIED = "intake-copied.json"
"""The same of the files that a run reads as copies: its labels."""
_AT_ONCE = 4096


class ImageRecord(NamedTuple):
    """An image, or a file of weights, as intake saw it."""

    path: str
    """Absolute; where it was found."""
    size_bytes: int
    modified_ns: int
    digest: str
    """SHA-256 in hex."""
    changed_ns: int = 0
    """When the system last saw it change, which nobody can set back; 0 is not known."""

    @classmethod
    def of(cls, path: Path) -> ImageRecord:
        """Read the file; the time of its last change is taken first."""
        before = path.stat()
        return cls(str(path), before.st_size, before.st_mtime_ns, sha256_of(path), before.st_ctime_ns)

    @classmethod
    def seen(cls, image: Path, facts: ImageFacts) -> ImageRecord:
        """Return the record of an image that intake has opened."""
        return cls(str(image), facts.size_bytes, facts.modified_ns, facts.digest, facts.changed_ns)


def record(files: Iterable[ImageRecord], workdir: Path, name: str = FILE) -> None:
    """Write what intake saw of *files*."""
    atomic_write(workdir / name, json.dumps(list(dict.fromkeys(files))).encode())


def verify(workdir: Path, alive: Callable[[], None] = lambda: None) -> None:
    """Insist that each file is as intake saw it.

    Size and times of change are compared; where a time differs, the content. A working folder without a record has
    nothing to verify.

    Raises:
        DataChanged: a file is gone, or has other content; the message names it.
        TransientError: the folder or its disk cannot be read.

    """
    if changed := changed_files(workdir, FILE, alive):
        raise data_changed(changed)


def changed_files(workdir: Path, name: str, alive: Callable[[], None] = lambda: None) -> list[str]:
    """Return the files of the record *name* that are gone, or have other content.

    Raises:
        TransientError: the folder or its disk cannot be read.

    """
    try:
        seen = [ImageRecord(*item) for item in json.loads((workdir / name).read_bytes())]
    except FileNotFoundError:
        return []
    now: list[ImageRecord] = []
    with ThreadPoolExecutor(max_workers=4) as pool:
        for start in range(0, len(seen), _AT_ONCE):
            alive()
            now += pool.map(_verified, seen[start : start + _AT_ONCE])
    changed = [before.path for before, after in zip(seen, now, strict=True) if before.digest != after.digest]
    if now != seen and not changed:  # touched, or copied back: the next time need not read them again
        record(now, workdir, name)
    return changed


def _verified(seen: ImageRecord) -> ImageRecord:
    """Return the record of a file as it is now; its digest is empty where there is none."""
    path = Path(seen.path)
    try:
        now = path.stat()
        times = now.st_mtime_ns, now.st_ctime_ns if seen.changed_ns else 0
        if (now.st_size, *times) == (seen.size_bytes, seen.modified_ns, seen.changed_ns):
            return seen
        return ImageRecord.of(path) if now.st_size == seen.size_bytes else seen._replace(digest="")
    except (FileNotFoundError, NotADirectoryError):
        return seen._replace(digest="")
    except OSError as error:
        raise TransientError(f"{path} cannot be read any more: {error.strerror}") from error


def data_changed(paths: Iterable[str]) -> DataChanged:
    """Return the error that names the changed files."""
    first, *others = paths
    gone = "" if Path(first).exists() else " and is gone"
    more = f", as have {len(others)} more" if others else ""
    return DataChanged(
        f"{first} has changed since the job read it{gone}{more}",
        hint="leave data and weights alone while a job runs; retry the job to train on what is there now",
    )
