"""Decompress a stream within limits that count real bytes."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import IO, Protocol

from retort.archives.members import CHUNK_BYTES, ArchiveLimits, too_large

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_READ_BYTES = 1 << 16
_MOST_MEMORY = 128 << 20
"""Of a dictionary that a stream of xz asks for; one of zstd may have a window as large."""
_WINDOW_LOG = 27
DAMAGE = (zlib.error, lzma.LZMAError, zstd.ZstdError, EOFError, ValueError)
"""What decompressing raises on damaged bytes; an OSError is the disk's."""


class _Decoder(Protocol):
    """A decompressor that gives no more than it is asked for."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _GzipDecoder:
    """zlib's, with the others' methods."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


def _zstd() -> _Decoder:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


_DECODERS: tuple[tuple[bytes, Callable[[], _Decoder]], ...] = (
    (b"\x1f\x8b", _GzipDecoder),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)),
    (b"\x28\xb5\x2f\xfd", _zstd),
)
"""By the first bytes."""
LONGEST_MAGIC = max(len(first) for first, _ in _DECODERS)


class UnpackedStream:
    """The unpacked bytes of a file that may be compressed, in order."""

    def __init__(self, file: IO[bytes], limits: ArchiveLimits) -> None:
        first = file.read(LONGEST_MAGIC)
        file.seek(0)
        self._file, self._limits = file, limits
        self._new = next((new for magic, new in _DECODERS if first.startswith(magic)), None)
        self._decoder = self._new() if self._new is not None else None
        self._pending = b""
        self._taken = self._given = 0

    @property
    def compressed(self) -> bool:
        """Whether the file is compressed in a way that is known."""
        return self._new is not None

    def read(self, size: int) -> bytes:
        """Return the next *size* bytes, or what is left.

        Raises:
            DataError: more came out than there is room for.
            EOFError: the stream is cut off.

        """
        parts = []
        while size > 0 and (part := self._some(min(size, CHUNK_BYTES))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        if self._decoder is None:
            return self._file.read(most)
        while not (self._decoder.eof and not self._begin_next()):
            data = self._input()
            try:
                found = self._decoder.decompress(data, most)
            except OSError as error:  # so bz2 says that bytes are damaged
                raise ValueError(str(error)) from error
            if found:
                self._count(len(found))
                return found
        return b""

    def _input(self) -> bytes:
        """Return what the decoder asks for."""
        assert self._decoder is not None
        if not self._decoder.needs_input:
            return b""
        data, self._pending = self._pending or self._file.read(_READ_BYTES), b""
        self._taken += len(data)
        if not data:
            raise EOFError("it is cut off")
        return data

    def _begin_next(self) -> bool:
        """Begin a further stream behind the last one's end; zeros that fill up are none."""
        assert self._decoder is not None
        assert self._new is not None
        rest = self._decoder.unused_data or self._file.read(_READ_BYTES)
        while rest and not rest.strip(b"\0"):
            rest = self._file.read(_READ_BYTES)
        if rest:
            self._decoder, self._pending = self._new(), rest.lstrip(b"\0")
            self._taken -= min(self._taken, len(rest))
        return bool(rest)

    def _count(self, number: int) -> None:
        self._given += number
        if self._given > self._limits.room(self._taken):
            size = f"{self._given >> 20} MiB from {max(1, self._taken >> 10)} KiB"
            too_large(f"unpacks to too much: {size}", f"at most {self._limits.most_ratio:g} times its size")
