"""Find the files of a dataset's folder that belong to none of its splits."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from retort.images import SUFFIXES, shown

_MOST_FILES = 2_000_000
"""That are looked at."""
_NOT_LABELS = frozenset({"classes.txt"})
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class OutsideFiles:
    """Files that are left out, by kind, each sorted and below the folder."""

    images: tuple[str, ...]
    labels: tuple[str, ...]
    others: tuple[str, ...]

    def note(self) -> str | None:
        """Tell the other files; None where there are none."""
        if not self.others:
            return None
        more = ", …" if len(self.others) > _SHOWN else ""
        number = f"{len(self.others):,} {'file' if len(self.others) == 1 else 'files'}"
        return f"{number} of other kinds, not read: {', '.join(self.others[:_SHOWN])}{more}"


def left_out(root: Path, known: Collection[Path], labels: Collection[Path]) -> OutsideFiles:
    """Return the files below *root* that are neither *known* nor *labels* of images.

    Hidden files and folders are passed over. Labels beside those of the *labels* are not told here either: they belong
    to no image.
    """
    images, lost, others = [], [], []
    told = {label.parent for label in labels}
    for path in sorted(islice(_files(root), _MOST_FILES)):
        if path in known or path in labels:
            continue
        name = shown(path.relative_to(root))
        if path.suffix.lower() in SUFFIXES:
            images.append(name)
        elif path.suffix == ".txt" and path.name not in _NOT_LABELS and _is_label(root, path):
            if path.parent not in told:
                lost.append(name)
        else:
            others.append(name)
    return OutsideFiles(tuple(images), tuple(lost), tuple(others))


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _is_label(root: Path, path: Path) -> bool:
    """Return True where labels lie: in a folder of that name, or beside the image."""
    if "labels" in path.relative_to(root).parts[:-1]:
        return True
    return any(path.with_suffix(ending).is_file() for ending in SUFFIXES)
