"""Read a tar archive member by member: files and folders, nothing else.

The standard library's reader holds headers of any size in memory and follows what links, sparse files and repeated
headers say; several of its checks were passed by (CVE-2025-4517, -4330, -4138, -8194, -13462). This one knows regular
files, folders and the two ways of writing long names, and refuses the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, NoReturn, Protocol

from retort.archives.members import CHUNK_BYTES, ArchiveLimits, Member, refuse, too_large
from retort.errors import DataError

_BLOCK = 512
_LARGEST_HEADER = 1 << 20
"""Bytes of a header beside a member: a long name, or attributes that are not used."""
_MOST_HEADERS = 8
"""One after the other, before a member."""
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_RECORD = re.compile(rb"([0-9]{1,8}) ")
_DIGITS = re.compile(r"[0-9]{1,19}")
_REGULAR, _FOLDER = {b"0", b"\0", b"7"}, b"5"
_KINDS = {
    b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"K": "a link",
    b"S": "a sparse file", b"M": "a part of another archive", b"D": "a list of another program",
}  # fmt: skip


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Header(NamedTuple):
    name: bytes
    size_bytes: int
    kind: bytes


def looks_like_tar(first: bytes) -> bool:
    """Return True if a file that begins with *first* is a tar archive."""
    return len(first) >= _BLOCK and (not any(first[:_BLOCK]) or _has_checksum(first[:_BLOCK]))


def tar_members(stream: _Readable, limits: ArchiveLimits) -> Iterator[Member]:
    """Yield the files and folders in the unpacked *stream*.

    Raises:
        DataError: it holds anything else, or is damaged.

    """
    reader, number = _TarReader(stream, limits), 0
    while (member := reader.next_member()) is not None:
        number += 1
        if number > limits.most_files:
            too_large(f"holds more than {limits.most_files:,} files", "that is the limit")
        yield member
        reader.skip()
    reader.check_end()


def _fail(message: str) -> NoReturn:
    raise DataError(f"the archive is damaged: {message}", hint="pack or send it again")


class _TarReader:
    """Walks through the blocks; what a member leaves unread is read over."""

    def __init__(self, stream: _Readable, limits: ArchiveLimits) -> None:
        self._stream, self._limits = stream, limits
        self._left = self._filling = 0
        self._total = 0

    def next_member(self) -> Member | None:
        long_name: bytes | None = None
        attributes: Mapping[str, str] = {}
        for _ in range(_MOST_HEADERS):
            header = self._header()
            if header is None:
                if long_name is not None or attributes:
                    _fail("it ends behind a long name")
                return None
            if header.kind == b"L":
                long_name = self._beside(header).rstrip(b"\0")
            elif header.kind == b"x":
                attributes = _attributes(self._beside(header))
            elif header.kind == b"g":
                _check_global(_attributes(self._beside(header)))
            else:
                return self._member(header, long_name, attributes)
        _fail("too many headers stand before a file")

    def skip(self) -> None:
        """Read over what is left of a member."""
        for _ in self._content():
            pass
        if len(self._stream.read(self._filling)) < self._filling:
            _fail("it is cut off")
        self._filling = 0

    def check_end(self) -> None:
        """Insist that nothing but filling stands behind the end."""
        while chunk := self._stream.read(CHUNK_BYTES):
            if any(chunk):
                _fail("more stands behind its end")

    def _header(self) -> _Header | None:
        block = self._stream.read(_BLOCK)
        if len(block) < _BLOCK:
            _fail("it is cut off")
        if not any(block):
            return None
        if not _has_checksum(block):
            _fail("a header has another checksum")
        name = block[:100].partition(b"\0")[0]
        prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
        return _Header(b"/".join(filter(None, (prefix, name))), _number(block[124:136]), block[156:157])

    def _beside(self, header: _Header) -> bytes:
        """Return the content of a header that says more about the next one."""
        if header.size_bytes > _LARGEST_HEADER:
            _fail(f"a header beside a file is larger than {_LARGEST_HEADER >> 10} KiB")
        content = self._stream.read(header.size_bytes)
        filling = -header.size_bytes % _BLOCK
        if len(content) + len(self._stream.read(filling)) < header.size_bytes + filling:
            _fail("it is cut off")
        return content

    def _member(self, header: _Header, long_name: bytes | None, attributes: Mapping[str, str]) -> Member:
        name = attributes.get("path") or _text(long_name if long_name is not None else header.name)
        if any(key.startswith("GNU.sparse") for key in attributes):
            refuse(name, "is a sparse file")
        if header.kind not in _REGULAR | {_FOLDER}:
            refuse(name, f"is {_KINDS.get(header.kind, 'no regular file')}")
        size = _size(attributes["size"]) if "size" in attributes else header.size_bytes
        folder = header.kind == _FOLDER or (header.kind == b"\0" and name.endswith("/"))
        if folder and size:
            refuse(name, "is a folder with content")
        if not folder and name.endswith("/"):
            refuse(name, "is a file with the name of a folder")
        self._claim(name, size)
        self._left, self._filling = size, -size % _BLOCK
        return Member(name, folder, self._content())

    def _claim(self, name: str, size: int) -> None:
        """Refuse at once what would be too large in the end."""
        self._total += size
        if size > self._limits.most_file_bytes:
            refuse(name, f"is larger than {self._limits.most_file_bytes >> 20} MiB", "leave it out")
        if self._total > self._limits.most_bytes:
            too_large("unpacks to too much", f"at most {self._limits.most_bytes >> 20} MiB")

    def _content(self) -> Iterator[bytes]:
        while self._left:
            chunk = self._stream.read(min(self._left, CHUNK_BYTES))
            if not chunk:
                _fail("it is cut off")
            self._left -= len(chunk)
            yield chunk


def _has_checksum(block: bytes) -> bool:
    found = _OCTAL.fullmatch(block[148:156])
    if found is None or not found[1]:
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    signed = sum(rest) - 256 * sum(byte > 127 for byte in rest)
    return int(found[1], 8) in {sum(rest), signed}


def _number(field: bytes) -> int:
    """Return a size: octal digits, or a large one in binary."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    found = _OCTAL.fullmatch(field)
    if found is None:
        _fail("a size is no number, or negative")
    return int(found[1] or b"0", 8)


def _size(text: str) -> int:
    if not _DIGITS.fullmatch(text):
        _fail("a size is no number, or negative")
    return int(text)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        refuse(name.decode("ascii", "backslashreplace"), "has a name that is not UTF-8", "name files in UTF-8")


def _attributes(content: bytes) -> dict[str, str]:
    """Return the records of a pax header: ``length key=value`` and a line end each."""
    found: dict[str, str] = {}
    while content.rstrip(b"\0"):
        head = _RECORD.match(content)
        length = int(head[1]) if head else 0
        record = content[head.end() : length] if head else b""
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        if not equals or not key or not record.endswith(b"\n") or length > len(content):
            _fail("a record of a pax header is malformed")
        found[_text(key)] = _text(value) if key in {b"path", b"size"} else ""
        content = content[length:]
    return found


def _check_global(attributes: Mapping[str, str]) -> None:
    if changed := [key for key in attributes if key in {"path", "size", "linkpath"} or key.startswith("GNU.sparse")]:
        refuse(changed[0], "a header gives to all files at once")
