"""Read a large JSON object piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TextIO

from retort.data.text_files import encoding_of
from retort.errors import DataError

LARGEST_VALUE = 16 << 20
"""Characters of one element of an array, or of one field that is no array."""
_MOST_VALUES = 2_000_000
"""Within one of these, counted before they are made."""
_CHUNK = 1 << 20
_BEGINNING = 1 << 10
_UNDECODABLE = re.compile(r"[\udc80-\udcff]")
"""What an undecodable byte becomes."""
_SPACE = re.compile(r"[ \t\r\n]*")
_HINT = "an object with images, annotations and categories is expected"


class Element(NamedTuple):
    """Element of an array in the object, or another field whole."""

    key: str
    position: int | None
    value: Any
    line: int


def elements(file: Path) -> Iterator[Element]:
    """Yield the elements of arrays in the JSON object in *file*.

    Its other fields come whole.

    Raises:
        DataError: it is no such object, or cannot be read as text; the message names the line.

    """
    with file.open("rb") as binary:
        encoding = encoding_of(binary.read(_BEGINNING))
    try:
        with file.open(encoding=encoding) as text:
            yield from _fields(_JsonWindow(text, file))
    except UnicodeDecodeError as error:
        line = _undecodable(file, encoding)
        raise DataError(f"{file}:{line}: no text in UTF-8 or UTF-16", hint="save it as UTF-8") from error


def _undecodable(file: Path, encoding: str) -> int:
    """Return the number of the line that cannot be decoded."""
    with file.open(encoding=encoding, errors="surrogateescape") as text:
        for number, line in enumerate(text, start=1):
            if _UNDECODABLE.search(line):
                return number
    return 1


def _fields(window: _JsonWindow) -> Iterator[Element]:
    if window.peek() == "[":
        window.fail("the document is a list, as of predictions, and no COCO annotations")
    window.take("{")
    if window.peek() == "}":
        return
    while True:
        window.peek()
        key = window.value()
        if not isinstance(key, str):
            window.fail("a field has no name")
        window.take(":")
        if window.peek() == "[":
            yield from _array(window, key)
        else:
            line = window.line
            yield Element(key, None, window.value(), line)
        if window.take(",}") == "}":
            break
    if window.peek():
        window.fail("text behind the end of the document")


def _array(window: _JsonWindow, key: str) -> Iterator[Element]:
    window.take("[")
    if window.peek() == "]":
        window.take("]")
        return
    index = 0
    while True:
        window.peek()
        line = window.line
        yield Element(key, index, window.value(), line)
        index += 1
        if window.take(",]") == "]":
            return


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


class _JsonWindow:
    """The part of a JSON text that is looked at."""

    def __init__(self, text: TextIO, file: Path) -> None:
        self.line = 1
        self._text, self._file = text, file
        self._buffer, self._at = "", 0
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def peek(self) -> str:
        """Return the next character that is no space, empty at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._at)
            assert found is not None
            self._forward(found.end())
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> str:
        """Take the next character, which must be one of *wanted*."""
        found = self.peek()
        if not found or found not in wanted:
            shown = " or ".join(repr(one) for one in wanted)
            self.fail(f"{shown} is expected, not {found!r}" if found else f"the file ends where {shown} is expected")
        self._forward(self._at + 1)
        return found

    def value(self) -> Any:
        """Take the next value whole."""
        while True:
            if len(self._buffer) - self._at > LARGEST_VALUE:
                self.fail(f"one value is longer than {LARGEST_VALUE >> 20} MiB, or malformed")
            if sum(self._buffer.count(one, self._at) for one in ",[{") > _MOST_VALUES:
                self.fail(f"one value may hold more than {_MOST_VALUES:,} others")
            try:
                found, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._more():
                    continue
                self.fail(error.msg)
            except (ValueError, RecursionError) as error:
                self.fail(str(error)[:100] or "nested too deeply")
            if end < len(self._buffer) or not self._more():
                self._forward(end)
                return found

    def fail(self, message: str) -> NoReturn:
        raise DataError(f"{self._file}:{self.line}: {message}", hint=_HINT)

    def _forward(self, to: int) -> None:
        self.line += self._buffer.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        chunk = self._text.read(max(_CHUNK, len(self._buffer) - self._at))  # what is begun again is twice as long
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        return bool(chunk)
