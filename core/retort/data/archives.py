"""Unpack archives of datasets: images, labels, lists and descriptions."""

from __future__ import annotations

from pathlib import Path

from retort.archives import unpack
from retort.archives.members import AS_USUAL, ArchiveLimits
from retort.archives.unpack import Unpacked
from retort.images import SUFFIXES

KINDS = SUFFIXES | {".json", ".names", ".txt", ".xml", ".yaml", ".yml"}
"""Endings of the files that a dataset is read from; caches, arrays, checkpoints and programs are none of them."""


def unpack_dataset(archive: Path, folder: Path, limits: ArchiveLimits = AS_USUAL) -> Unpacked:
    """Unpack *archive* into *folder*, and list the files.

    The folder belongs to the caller alone. After a refusal the folder holds nothing of it.

    Raises:
        DataError: it is no ZIP or tar archive, is damaged or too large, or holds what is no plain file.
        OSError: it could not be written.

    """
    return unpack.unpack(archive, folder, limits, kinds=KINDS)
