"""Define the members of archives, their limits, and which names they may have."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NoReturn

from retort.errors import UNPRINTABLE, DataError

CHUNK_BYTES = 1 << 20
"""Read from an archive at a time."""
_DRIVE = re.compile(r"[A-Za-z]:")
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
"""Devices of Windows, whatever ending they have."""
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits on the contents of an archive, compared with real bytes."""

    most_files: int = 1_000_000
    """Files and folders, those too that are left out."""
    most_bytes: int = 200 << 30
    """Of all files together, unpacked."""
    most_file_bytes: int = 8 << 30
    """Of one file, unpacked."""
    most_ratio: float = 100.0
    """How many times an archive its contents may be, beyond `free_bytes`."""
    free_bytes: int = 64 << 20
    """Unpacked bytes that no ratio is asked of."""
    most_depth: int = 32
    """Folders within each other, the file with them."""
    longest_name: int = 255
    """Bytes of a file's or folder's name."""
    longest_path: int = 1024
    """Bytes of a path."""

    def room(self, packed_bytes: int) -> float:
        """Return the limit on bytes unpacked from *packed_bytes*."""
        return min(float(self.most_bytes), self.free_bytes + self.most_ratio * packed_bytes)


AS_USUAL = ArchiveLimits()


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file or a folder in an archive."""

    name: str
    """As the archive has it, not checked."""
    folder: bool = False
    chunks: Iterable[bytes] = ()
    """The file's content, which can be read until the next member is asked for."""


def refuse(name: str, reason: str, hint: str = "pack the folder itself, with plain files and names") -> NoReturn:
    """Refuse an archive for one of its members.

    Raises:
        DataError: always.

    """
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    raise DataError(f"the archive holds {shown!r}, which {reason}", hint=hint)


def too_large(what: str, limit: str) -> NoReturn:
    """Refuse an archive for its size.

    Raises:
        DataError: always.

    """
    raise DataError(f"the archive {what}", hint=f"{limit}; pack less into one archive, or check what is in it")


def checked_path(name: str, limits: ArchiveLimits) -> PurePosixPath:
    """Return the path of a member below its archive's folder.

    A backslash is taken for a slash, as programs on Windows write it.

    Raises:
        DataError: it leads out, or no name of a file that means the same on every system.

    """
    if found := UNPRINTABLE.search(name):
        refuse(name, f"has the unprintable character U+{ord(found[0]):04X} in its name")
    plain = name.replace("\\", "/")
    if plain.startswith("/") or _DRIVE.match(plain):
        refuse(name, "is an absolute path and leads out of the archive")
    parts = [part for part in plain.split("/") if part not in {"", "."}]
    if not parts:
        refuse(name, "names no file")
    for part in parts:
        _check_part(name, part, limits)
    if len(parts) > limits.most_depth:
        refuse(name, f"lies more than {limits.most_depth} folders deep", "pack the images' folder itself")
    if len("/".join(parts).encode()) > limits.longest_path:
        refuse(name, f"has a path of more than {limits.longest_path} bytes", "shorten it")
    return PurePosixPath(*parts)


def _check_part(name: str, part: str, limits: ArchiveLimits) -> None:
    if not part.strip(". "):
        refuse(name, "leads out of the archive" if part.strip() == ".." else "has a name of dots and spaces alone")
    plain = unicodedata.normalize("NFKC", part)
    if "/" in plain or "\\" in plain or not plain.strip(". "):
        refuse(name, "has a letter that stands for a slash or dots in its name")
    if any(unicodedata.category(letter) == "Cn" for letter in part):
        refuse(name, "has an unassigned character in its name")
    if len(part.encode()) > limits.longest_name:
        refuse(name, f"has a name of more than {limits.longest_name} bytes", "shorten it")
    if _RESERVED.fullmatch(plain.partition(".")[0].partition(":")[0].strip()):
        refuse(name, "has the name of a device on Windows", "give it another name")


def folded(path: PurePosixPath) -> str:
    """Return a key that is equal for paths that some systems confuse."""
    parts = (unicodedata.normalize("NFC", part).casefold().rstrip(". ") for part in path.parts)
    return unicodedata.normalize("NFC", "/".join(parts))
