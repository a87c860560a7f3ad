"""Download archives by URL, resume, and verify their digests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

from retort.data.catalog import Archive
from retort.errors import DISK_FULL, DataError, FetchError, TransientError

_CHUNK_BYTES = 1 << 20
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """An archive on the disk with the right bytes."""

    path: Path
    sha256: str
    checked: str
    """By what its bytes were checked, in words."""


def fetch(archive: Archive, folder: Path, pins: Mapping[str, str], *, allowed: bool) -> Fetched:
    """Return *archive* in *folder*, downloaded where missing and *allowed*.

    *pins* has the SHA-256 of what was there under the same name before, where nobody has published a checksum.

    Raises:
        DataError: it is not there, and downloading is switched off; or its bytes are not the right ones.
        FetchError: it could not be downloaded.

    """
    path = folder / archive.file
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        by_hand = f"put {archive.url} at {path} by hand"
        if not allowed:
            raise DataError(f"{archive.file} is not there, and fetching data sets is switched off", hint=by_hand)
        try:
            download(archive.url, path, limit_bytes=archive.limit_bytes)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise TransientError(
                    f"the disk of {folder} is full", code="disk_full", hint="free space there"
                ) from error
            reason = str(error) or type(error).__name__
            raise FetchError(f"could not fetch {archive.url}: {reason}", hint=by_hand) from error
    return _checked(archive, path, pins.get(archive.file))


def _checked(archive: Archive, path: Path, pin: str | None) -> Fetched:
    sha256, published = _digests(path, archive.checksum[0] if archive.checksum else "sha256")
    if archive.checksum is not None:
        kind, wanted = archive.checksum
        if published != wanted:
            _refuse(path, f"its {kind} is {published}, and {archive.checksum_source} has {wanted}")
        return Fetched(path, sha256, f"{kind} {wanted} ({archive.checksum_source})")
    if pin is not None:
        if sha256 != pin:
            _refuse(path, f"its sha256 is {sha256}, and what was fetched first had {pin}")
        return Fetched(path, sha256, "what was fetched first")
    return Fetched(path, sha256, "nothing: nobody has published a checksum, so this one is remembered")


def _refuse(path: Path, reason: str) -> None:
    """Put the file aside, so that the next try fetches it anew.

    Raises:
        DataError: always.

    """
    aside = path.with_name(f"{path.name}.refused")
    path.replace(aside)
    raise DataError(f"{path.name} is not what it should be: {reason}", hint=f"it is kept as {aside}; try again")


def _digests(path: Path, kind: str) -> tuple[str, str]:
    """Return the SHA-256 and the digest of that *kind*, in one pass."""
    student, teacher = hashlib.sha256(), hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            student.update(chunk)
            teacher.update(chunk)
    return student.hexdigest(), teacher.hexdigest()


def download(url: str, path: Path, *, limit_bytes: int, verify: Callable[[Path], None] | None = None) -> None:
    """Download a file to ``path.part``, then move it into place.

    A download that breaks off is tried several times. A later call goes on with what an earlier one has left, as long
    as the server says that the file is the same.

    Args:
        url: where it is.
        path: where it goes, in a folder that exists.
        limit_bytes: how large it may be.
        verify: raises OSError where the whole file is not what it should be.

    Raises:
        httpx.HTTPError, httpx.InvalidURL: the server refused it, or it broke off without an end.
        OSError: it is too large, did not pass *verify*, or could not be written.

    """
    part, about = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    for left in reversed(range(_TRIES)):
        had = part.stat().st_size if part.exists() else 0
        try:
            _receive(url, part, about, limit_bytes)
            break
        except httpx.TransportError:
            # As long as something arrives, it is worth going on.
            if not left or not part.exists() or part.stat().st_size <= had:
                raise
    about.unlink(missing_ok=True)
    if verify is not None:
        verify(part)
    part.replace(path)


def _receive(url: str, part: Path, about: Path, limit_bytes: int) -> None:
    """Receive what is missing of the file, or all of it where it has changed since."""
    tag, size = _begun(part, about)
    headers = {"Accept-Encoding": "identity"}
    if tag:
        headers |= {"Range": f"bytes={size}-", "If-Range": tag}
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=30.0) as answer:
        if tag and answer.status_code == httpx.codes.RANGE_NOT_SATISFIABLE:  # there is no rest
            about.unlink()
            return _receive(url, part, about, limit_bytes)
        answer.raise_for_status()
        rest = answer.status_code == httpx.codes.PARTIAL_CONTENT
        size = size if rest else 0
        promised = None if "Content-Encoding" in answer.headers else answer.headers.get("Content-Length")
        whole = None if promised is None else size + int(promised)
        if (whole or 0) > limit_bytes:
            raise OSError(f"it has {whole} bytes, more than {limit_bytes}")
        about.write_text(json.dumps({"etag": answer.headers.get("ETag")}))
        with part.open("ab" if rest else "wb") as file:
            for chunk in answer.iter_bytes():  # as it arrives: of what breaks off nothing is lost
                size += len(chunk)
                if size > limit_bytes:
                    raise OSError(f"it has more than {limit_bytes} bytes")
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    if whole is not None and size != whole:
        raise httpx.ReadError(f"{size} of {whole} bytes arrived")
    return None


def _begun(part: Path, about: Path) -> tuple[str | None, int]:
    """Return what an earlier try has left: the strong validator of its bytes, and how many there are."""
    try:
        entry: Any = json.loads(about.read_text())
        tag, size = entry["etag"], part.stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0
    return (tag, size) if isinstance(tag, str) and not tag.startswith("W/") and size else (None, 0)
