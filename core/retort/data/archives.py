"""Extract archives of datasets safely."""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from retort.errors import DataError
from retort.images import SUFFIXES

_CHUNK_BYTES = 1 << 20
_KINDS = SUFFIXES | {".json", ".txt", ".xml"}


@dataclass
class ExtractLimit:
    """Number and size of files that may still be extracted."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    regular: bool
    """Whether it is a plain file: no link, device or pipe."""


def unpack(archive: Path, folder: Path, limit: ExtractLimit) -> None:
    """Unpack *archive* (ZIP or tar) into *folder*.

    A file that is neither an image nor a label or list stays out.

    Raises:
        DataError: it is no such archive, is damaged, leads out of the folder, holds links, or is too large.

    """
    try:
        with _opened(archive) as members:
            for member, file in members:
                _write(archive, member, file, folder, limit)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise DataError(f"{archive.name} cannot be unpacked: {error}", hint="fetch it again") from error


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[tuple[_Member, IO[bytes]]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped, closing(_of_zip(zipped)) as members:
            yield members
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tarred, closing(_of_tar(tarred)) as members:
            yield members
    else:
        raise DataError(f"{archive.name} is neither a ZIP file nor a tar file", hint="fetch it again")


def _of_zip(zipped: zipfile.ZipFile) -> Generator[tuple[_Member, IO[bytes]]]:
    for info in zipped.infolist():
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        with zipped.open(info) as file:
            yield _Member(info.filename, kind in {0, stat.S_IFREG}), file


def _of_tar(tarred: tarfile.TarFile) -> Generator[tuple[_Member, IO[bytes]]]:
    for info in tarred:
        if info.isdir():
            continue
        file = tarred.extractfile(info) if info.isreg() else None
        if file is None:
            raise DataError(f"the archive holds {info.name!r}, which is a link or no file", hint="do not use it")
        with file:
            yield _Member(info.name, regular=True), file


def _write(archive: Path, member: _Member, file: IO[bytes], folder: Path, limit: ExtractLimit) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in member.name or not member.regular:
        message = f"{archive.name} holds {member.name!r}, which leads out of its folder or is no plain file"
        raise DataError(message, hint="do not use it")
    if path.suffix.lower() not in _KINDS or path.name.startswith("._") or "__MACOSX" in path.parts:
        return
    limit.files -= 1
    target = folder.joinpath(*path.parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        written = target.open("wb")
    except (FileExistsError, IsADirectoryError, NotADirectoryError, ValueError) as error:
        raise DataError(f"{archive.name} holds {member.name!r} beside a folder of that name") from error
    with written:
        while chunk := file.read(_CHUNK_BYTES):
            limit.size_bytes -= len(chunk)
            if limit.files < 0 or limit.size_bytes < 0:
                raise DataError(f"{archive.name} holds more than it should", hint="do not use it")
            written.write(chunk)
