"""Walk messages of protobuf in a file, field by field, within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

from retort.checkpoints.records import Flaw

MOST_FIELDS = 500_000
"""Of one file; the largest detectors have a tenth."""
_LONGEST_VARINT = 10
_HEAD = 2 * _LONGEST_VARINT
_FIXED = {1: 8, 5: 4}
"""Bytes of the fixed sizes, by wire type."""


class FieldSpan(NamedTuple):
    """Bytes of a file, from *begin* up to *end*."""

    begin: int
    end: int


class FieldReader:
    """Reader of fields, which counts them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = MOST_FIELDS

    def fields(self, span: FieldSpan) -> Iterator[tuple[int, int | FieldSpan]]:
        """Yield the number and the value of each field in *span*.

        What has a fixed size is skipped.

        Raises:
            Flaw: it is no message, or there are too many fields.

        """
        at = span.begin
        while at < span.end:
            self._left -= 1
            if self._left < 0:
                raise Flaw(f"it has more than {MOST_FIELDS} fields")
            self._file.seek(at)
            head = self._file.read(min(_HEAD, span.end - at))
            key, taken = _varint(head, 0)
            kind, at = key & 7, at + taken
            if kind in _FIXED:
                at += _FIXED[kind]
                _insist_within(at, span)
                continue
            if kind not in {0, 2}:
                raise Flaw("it has a field of an unknown kind")
            value, size = _varint(head, taken)
            at += size
            if kind == 0:
                yield key >> 3, value
                continue
            _insist_within(at + value, span)
            yield key >> 3, FieldSpan(at, at + value)
            at += value

    def text(self, span: int | FieldSpan, most: int) -> str:
        """Return the text in *span* of at most *most* bytes."""
        if not isinstance(span, FieldSpan) or span.end - span.begin > most:
            raise Flaw(f"a text in it has more than {most} bytes, or is none")
        self._file.seek(span.begin)
        return self._file.read(span.end - span.begin).decode(errors="replace")

    def numbers(self, value: int | FieldSpan) -> list[int]:
        """Return one number, or the few that are packed in a row."""
        if not isinstance(value, FieldSpan):
            return [value]
        if value.end - value.begin > _LONGEST_VARINT * _LONGEST_VARINT:
            raise Flaw("a shape in it has too many sides")
        self._file.seek(value.begin)
        packed, at, found = self._file.read(value.end - value.begin), 0, []
        while at < len(packed):
            number, taken = _varint(packed, at)
            found.append(number)
            at += taken
        return found


def _insist_within(at: int, span: FieldSpan) -> None:
    if at > span.end:
        raise Flaw("a field of it reaches beyond its message: it is damaged or cut off")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at *at*, and its length."""
    value = 0
    for taken, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 127) << (7 * taken)
        if byte < 128:
            return value, taken + 1
    raise Flaw("a number in it does not end: it is damaged or cut off")


def field(number: int, content: bytes) -> bytes:
    """Return a field of bytes, as it is appended to a message."""
    return _number(number << 3 | 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
