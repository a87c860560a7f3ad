"""Read a ZIP archive member by member, after a look at its whole directory."""

from __future__ import annotations

import io
import itertools
import mmap
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from retort.archives.members import CHUNK_BYTES, ArchiveLimits, Member, refuse, too_large

_END, _END_LENGTH, _LONGEST_COMMENT = b"PK\5\6", 22, 0xFFFF
_LOCATOR, _LOCATOR_LENGTH, _END64, _END64_LENGTH = b"PK\6\7", 20, b"PK\6\6", 56
_ENTRY, _ENTRY_LENGTH = b"PK\1\2", 46
_LOCAL, _LOCAL_LENGTH = b"PK\3\4", 30
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Others are read by few programs, and by Python's reader in pieces that can be of any size."""
MAGIC = (_LOCAL, _END)

Content = bytes | mmap.mmap


def zip_members(file: BinaryIO | io.BytesIO, content: Content, limits: ArchiveLimits) -> Iterator[Member]:
    """Yield the files and folders in a ZIP *file*, whose bytes are *content*.

    Raises:
        DataError: it holds anything else, more than the limits allow, or parts that overlap.
        zipfile.BadZipFile: it is damaged.

    """
    start = _start_of_directory(content, limits)
    with zipfile.ZipFile(file) as archive:
        listed = archive.infolist()
        _check_sizes(listed, len(content), limits)
        _check_places(listed, content, start)
        for info in listed:
            _check(info)
            yield Member(info.filename, info.is_dir(), _content(archive, info))


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    if info.compress_type not in _METHODS:
        method = f"is compressed by the method {info.compress_type}"
        refuse(info.filename, method, "pack an ordinary ZIP file (deflate)")
    with archive.open(info) as member:
        while chunk := member.read(CHUNK_BYTES):
            yield chunk


def _start_of_directory(content: Content, limits: ArchiveLimits) -> int:
    """Return where the directory begins, and count its entries before an object is made for each."""
    end = content.rfind(_END, max(0, len(content) - _END_LENGTH - _LONGEST_COMMENT))
    if end < 0 or len(content) - end < _END_LENGTH:
        raise zipfile.BadZipFile("it has no directory, or is cut off")
    (length,) = struct.unpack_from("<L", content, end + 12)
    before = end - _LOCATOR_LENGTH
    if before >= _END64_LENGTH and content[before : before + 4] == _LOCATOR:
        end = before - _END64_LENGTH
        if content[end : end + 4] != _END64:
            raise zipfile.BadZipFile("its directory is not where it says")
        (length,) = struct.unpack_from("<Q", content, end + 40)
    if length > end:
        raise zipfile.BadZipFile("its directory is larger than the file")
    place, number = end - length, 0
    while place + _ENTRY_LENGTH <= end:
        if content[place : place + 4] != _ENTRY:
            raise zipfile.BadZipFile("its directory is damaged")
        place += _ENTRY_LENGTH + sum(struct.unpack_from("<3H", content, place + 28))
        number += 1
        if number > limits.most_files:
            too_large(f"holds more than {limits.most_files:,} files", "that is the limit")
    start: int = end - length
    return start


def _check_sizes(listed: Iterable[zipfile.ZipInfo], packed_bytes: int, limits: ArchiveLimits) -> None:
    """Refuse what is too large by its own account; no member gives more than that."""
    total = 0
    for info in listed:
        total += info.file_size
        if info.file_size > limits.most_file_bytes:
            refuse(info.filename, f"is larger than {limits.most_file_bytes >> 20} MiB", "leave it out")
    if total > limits.room(packed_bytes):
        size = f"{total >> 20} MiB from {max(1, packed_bytes >> 10)} KiB"
        limit = f"at most {limits.most_ratio:g} times its size and {limits.most_bytes >> 20} MiB"
        too_large(f"unpacks to too much: {size}", limit)


def _check_places(listed: Iterable[zipfile.ZipInfo], content: Content, start: int) -> None:
    """Refuse members that share bytes, by which a small archive unpacks to any size."""
    ordered = sorted(listed, key=lambda info: info.header_offset)
    ends = [info.header_offset for info in ordered[1:]] + [start]
    for info, end in itertools.zip_longest(ordered, ends[: len(ordered)]):
        place = info.header_offset
        if not 0 <= place <= start - _LOCAL_LENGTH or content[place : place + 4] != _LOCAL:
            raise zipfile.BadZipFile(f"{info.filename[:100]!r} is not where the directory says")
        place += _LOCAL_LENGTH + sum(struct.unpack_from("<2H", content, place + 26)) + info.compress_size
        if place > end:
            refuse(info.filename, "shares bytes with another file", "pack it again")


def _check(info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    if not name:
        refuse(name, "has no name")
    if "\0" in name:
        refuse(name, "has a NUL character in its name")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        refuse(name, "is a link")
    if kind not in {0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG}:
        refuse(name, "is no regular file")
    if info.is_dir() and info.file_size:
        refuse(name, "is a folder with content")
    if info.flag_bits & _ENCRYPTED:
        refuse(name, "is encrypted", "pack it without a password")
