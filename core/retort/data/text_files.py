"""Read text files from strangers: bounded, in the encodings of their tools."""

from __future__ import annotations

import codecs
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retort.errors import DataError

_THEIRS = {
    errno.EACCES: "let that user read files and enter folders: chmod -R a+rX",
    errno.EPERM: "let that user read files and enter folders: chmod -R a+rX",
    errno.ENAMETOOLONG: "shorten the path",
    errno.ELOOP: "links that lead to each other: remove one",
    errno.ENOTDIR: "a file stands where a folder is named",
    errno.EISDIR: "a folder stands where a file is named",
}
"""By what the system says: what people can do. Anything else is the machine's."""


@contextmanager
def readable() -> Iterator[None]:
    """Tell people that a file of theirs cannot be read.

    A retry would not help.

    Raises:
        DataError: permission is denied, a name is too long, or links go in a circle.

    """
    try:
        yield
    except RuntimeError as error:
        if "Symlink loop" not in str(error):  # as Python up to 3.12 tells of ELOOP
            raise
        raise DataError(str(error), hint=_THEIRS[errno.ELOOP]) from error
    except OSError as error:
        hint = _THEIRS.get(error.errno or 0)
        if hint is None:
            raise
        where = error.filename if error.filename is not None else "the data"
        user = f" (the process runs as user {os.getuid()})" if error.errno in {errno.EACCES, errno.EPERM} else ""
        raise DataError(f"{os.fsdecode(where)[:500]}: {error.strerror}{user}", hint=hint) from error


def read_text(file: Path, shown: str, *, most_bytes: int) -> str:
    """Read a text file in UTF-8 or UTF-16; messages name it as *shown*.

    Raises:
        DataError: it is too large, or in another encoding.

    """
    return decoded(read_bytes(file, shown, most_bytes=most_bytes), shown)


def read_bytes(file: Path, shown: str, *, most_bytes: int) -> bytes:
    """Read a file that is not too large.

    Raises:
        DataError: it is.

    """
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        data = opened.read(most_bytes + 1) if size <= most_bytes else b""
    if max(size, len(data)) > most_bytes:  # it may have grown since
        message = f"{shown} is larger than {most_bytes >> 20} MiB ({size / (1 << 20):,.0f} MiB)"
        raise DataError(message, hint="a text file of that kind is smaller")
    return data


def decoded(data: bytes, shown: str) -> str:
    """Decode a text in UTF-8, or in UTF-16 with or without its mark.

    Raises:
        DataError: it is neither.

    """
    encoding = encoding_of(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        place = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{shown} is not a text file in UTF-8 or UTF-16: line {place} holds the byte 0x{data[error.start]:02x}",
            hint="save it as UTF-8",
        ) from error
    if "\0" in text:
        place = len(text[: text.index("\0") + 1].splitlines())
        raise DataError(f"{shown} is not a text file: line {place} holds a NUL character", hint="save it as UTF-8")
    return text


def encoding_of(data: bytes) -> str:
    """Return the encoding of a text that begins with *data*.

    It is UTF-16 by its mark or its zeros, else UTF-8.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(data) % 2 == 0 and data and not any(data[1::2]):
        return "utf-16-le"
    if len(data) % 2 == 0 and data and not any(data[::2]):
        return "utf-16-be"
    return "utf-8-sig"
