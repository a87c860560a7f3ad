"""One byte range of a download (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import NamedTuple

from retort.errors import UserError

_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE)


class Span(NamedTuple):
    """Bytes from *start* up to, not including, *end*."""

    start: int
    end: int


class RangeNotSatisfiable(UserError):
    """The range begins behind the last byte."""

    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"the artifact has {size} bytes")
        self.headers = {"Content-Range": f"bytes */{size}"}


def requested(header: str | None, size: int) -> Span | None:
    """Return the bytes that a Range header asks for; None for all: several or malformed ranges are ignored.

    Raises:
        RangeNotSatisfiable: none of the bytes exist.

    """
    found = _ONE_RANGE.fullmatch(header or "")
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    else:
        start, end = max(0, size - int(last)), size
    if start >= size:
        raise RangeNotSatisfiable(size)
    return Span(start, end)
