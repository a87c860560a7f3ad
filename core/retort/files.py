"""SHA-256 of files, and atomic writes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

PRIVATE_UMASK = 0o077
"""What a process that keeps other people's data takes from the modes of all that it makes."""


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


def keep_private() -> None:
    """Set the umask so that only the owner may read new files."""
    os.umask(PRIVATE_UMASK)


def make_private(folder: Path) -> None:
    """Make *folder* private, and all that this process creates.

    Raises:
        OSError: it cannot be made.

    """
    keep_private()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(PermissionError):  # of a folder that belongs to somebody else: its files are private all the same
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~PRIVATE_UMASK)


def create_private(path: Path) -> None:
    """Make a file readable by its owner only; create it empty.

    SQLite gives its journals the mode of their database. What goes wrong is told by whoever opens the file.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with suppress(OSError):
            file = path.with_name(name)
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & PRIVATE_UMASK:
                file.chmod(mode & ~PRIVATE_UMASK)


def protect_sqlite(url: str) -> None:
    """Make the file of an SQLite *url* private; other addresses have none."""
    scheme, _, path = url.partition(":///")
    if scheme.endswith("sqlite") and path:
        create_private(Path(path.partition("?")[0]))


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
