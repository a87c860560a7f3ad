"""SHA-256 of files, and atomic writes."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex.

    Raises:
        OSError: it cannot be read.

    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write(path: Path, *parts: bytes | memoryview) -> None:
    """Replace *path* by *parts* atomically and durably.

    Temporary file, fsync, comparison with what reading it back gives, rename, fsync of the folder.

    Raises:
        OSError: the disk is full, or gives other bytes back than it was given.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        _verify(temporary, *parts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Delete the partial files of killed processes in *folder*.

    Nobody else may be writing there.
    """
    for path in folder.glob(".*.part"):
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Flush the names in *folder* to disk, to survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _verify(path: Path, *parts: bytes | memoryview) -> None:
    expected = hashlib.sha256()
    for part in parts:
        expected.update(part)
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):  # from the disk, where that is possible, and not from memory
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if hashlib.file_digest(file, "sha256").digest() != expected.digest():
            raise OSError(errno.EIO, "the disk gave other bytes back than it was given", str(path))
