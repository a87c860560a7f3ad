"""Unpack an archive from strangers into a folder, or refuse it."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from retort.archives.members import AS_USUAL, ArchiveLimits, Member, checked_path, folded, refuse
from retort.archives.streams import DAMAGE, UnpackedStream
from retort.archives.tar import looks_like_tar, tar_members
from retort.archives.zip import MAGIC, zip_members
from retort.errors import DataError

NESTED = frozenset(".7z .bz2 .gz .rar .tar .tbz2 .tgz .txz .tzst .xz .zip .zst".split())  # noqa: SIM905 - a list of words
"""Endings of archives, which are not unpacked inside of another."""
_DAMAGE = (zipfile.BadZipFile, struct.error, RuntimeError, OverflowError, *DAMAGE)
_OF_A_MAC = "__MACOSX"
_LONGEST_ENDING = 16
_MOST_ENDINGS = 50


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """A file that was unpacked."""

    path: str
    """Below the folder, with slashes."""
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Files unpacked from an archive."""

    files: tuple[UnpackedFile, ...]
    """In the order of the archive."""
    left_out: Mapping[str, int]
    """By ending: how many files were not unpacked, because nothing reads such files."""


def unpack(archive: Path, folder: Path, limits: ArchiveLimits = AS_USUAL, *, kinds: Collection[str]) -> Unpacked:
    """Unpack *archive* into *folder*, and list the files.

    It is a ZIP archive, or a tar archive, plain or compressed by gzip, bzip2, xz or zstd. Files whose endings are not
    among *kinds* stay out and are counted. The folder belongs to the caller alone; it holds nothing of the archive
    after a refusal.

    Raises:
        DataError: it is no such archive, is damaged, too large, or holds what is no plain file inside the folder.
        OSError: it could not be written.

    """
    written = _Extraction(folder, limits, frozenset(kinds))
    try:
        with archive.open("rb") as file:
            for member in _members(file, limits):
                written.add(member)
    except BaseException as error:
        written.remove()
        if isinstance(error, DataError):
            raise DataError(f"{archive.name}: {error.message}", hint=error.hint) from error
        if isinstance(error, _DAMAGE):
            reason = str(error) or type(error).__name__
            raise DataError(f"{archive.name} cannot be unpacked: {reason}", hint="pack or send it again") from error
        raise
    return Unpacked(tuple(written.files), dict(written.left_out))


def _members(file: IO[bytes], limits: ArchiveLimits) -> Iterator[Member]:
    if not file.read(1):
        raise DataError("the archive is empty", hint="pack or send it again")
    file.seek(0)
    first = file.read(512)
    file.seek(0)
    if first.startswith(MAGIC):
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield from zip_members(file, content, limits)  # type: ignore[arg-type]
        return
    stream = UnpackedStream(file, limits)
    if not stream.compressed and not looks_like_tar(first):
        raise DataError("it is neither a ZIP file nor a tar file", hint="pack the folder as ZIP, tar.gz or tar.zst")
    yield from tar_members(stream, limits)


@dataclass(slots=True)
class _Extraction:
    """Writes members, and knows what it has written."""

    folder: Path
    limits: ArchiveLimits
    kinds: frozenset[str]
    files: list[UnpackedFile] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    made: list[Path] = field(default_factory=list)
    """Folders and files, in the order in which they were made."""
    taken: dict[str, str | None] = field(default_factory=dict)
    """By folded path: how a folder is spelled, or None for a file."""

    def add(self, member: Member) -> None:
        path = checked_path(member.name, self.limits)
        self._take(member, path)
        if member.folder:
            return
        ending = path.suffix.lower()
        if path.name.startswith("._") or _OF_A_MAC in path.parts:
            self._leave_out("._*")
        elif ending in NESTED:
            refuse(member.name, "is an archive itself", "unpack it, and pack its files")
        elif ending not in self.kinds:
            self._leave_out(ending[:_LONGEST_ENDING] or path.name[:_LONGEST_ENDING])
        else:
            self._write(member, path)

    def _leave_out(self, ending: str) -> None:
        known = ending in self.left_out or len(self.left_out) < _MOST_ENDINGS
        self.left_out[ending if known else "others"] += 1

    def _take(self, member: Member, path: PurePosixPath) -> None:
        """Insist that no file has the place of another, or of a folder, on any system."""
        above = [*reversed(path.parents)][1:]
        for one in [*above, path] if member.folder else above:
            if self.taken.setdefault(folded(one), str(one)) != str(one):
                refuse(member.name, f"lies in {str(one)[:100]!r}, of which there is another spelling, or a file")
        if not member.folder:
            if (place := folded(path)) in self.taken:
                refuse(member.name, "is there twice, but for capital letters", "give each file a name of its own")
            self.taken[place] = None

    def _write(self, member: Member, path: PurePosixPath) -> None:
        target, digest, size = self.folder.joinpath(*path.parts), hashlib.sha256(), 0
        self._make(target.parent)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self.made.append(target)
        with open(handle, "wb") as file:  # noqa: PTH123 - of a handle
            for chunk in member.chunks:
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
        self.files.append(UnpackedFile(path.as_posix(), size, digest.hexdigest()))

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir()
            self.made.append(folder)

    def remove(self) -> None:
        """Take back all that was written."""
        for path in reversed(self.made):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
