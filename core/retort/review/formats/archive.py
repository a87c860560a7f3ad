"""Zip archives: packed the same for the same content, and opened in memory within limits."""

from __future__ import annotations

import io
import lzma
import stat
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from retort.review.decisions import ReviewError

MOST_FILES = 100_000
MOST_BYTES = 64 << 20
"""Of all the files that are read, unpacked."""
_WHEN = (1980, 1, 1, 0, 0, 0)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of *files*."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(zipfile.ZipInfo(name, _WHEN), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def is_zip(data: bytes) -> bool:
    """Whether *data* begins like an archive."""
    return data.startswith(b"PK")


def unpack(data: bytes, suffixes: Collection[str]) -> dict[PurePosixPath, bytes]:
    """Return the files with one of the *suffixes* in a zip, in its order; others are not unpacked, and none is written.

    Raises:
        ReviewError: it is no archive, or not one that should be opened.

    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            return _unpacked(source, suffixes)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ReviewError(f"not a zip archive that can be opened: {error}", hint="pack it again") from error


def _unpacked(source: zipfile.ZipFile, suffixes: Collection[str]) -> dict[PurePosixPath, bytes]:
    listed = source.infolist()
    if len(listed) > MOST_FILES:
        raise ReviewError(f"{len(listed)} files in the archive", hint=f"at most {MOST_FILES}")
    found: dict[PurePosixPath, bytes] = {}
    left = MOST_BYTES
    for info in listed:
        path = _checked(info)
        if info.is_dir() or path.suffix.lower() not in suffixes:
            continue
        if path in found:
            raise ReviewError(f"{str(path)[:100]} is in the archive twice", hint="pack it again")
        # What the archive says of sizes is a claim: no more is unpacked than there is room for.
        with source.open(info) as file:
            found[path] = content = file.read(left + 1)
        left -= len(content)
        if left < 0:
            raise ReviewError(f"more than {MOST_BYTES >> 20} MiB in the archive", hint="send the labels alone")
    return found


def _checked(info: zipfile.ZipInfo) -> PurePosixPath:
    """Return the path of a member, which must be a plain one inside the archive."""
    path, shown = PurePosixPath(info.filename), f"{info.filename[:100]!r}"
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
        raise ReviewError(f"{shown} leads out of the archive", hint="pack the folder itself, with plain names")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ReviewError(f"{shown} is a link", hint="pack files, not links")
    if info.flag_bits & 1:
        raise ReviewError("the archive is encrypted", hint="pack it without a password")
    return path
