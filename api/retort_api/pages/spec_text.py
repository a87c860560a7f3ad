"""Write spec documents as YAML, and change such a text where its document changes.

Everything else stays as it was written: comments, order, quotes, blank lines. Round-trip libraries lose the comments
that stand before or behind what is taken out, and set out lists anew; here each change replaces the part of the text
that means it, and what comes out is read again before it is believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from typing import Any

from retort.documents import TextPlace, document_text, parse_document, text_places
from retort.errors import SpecError

_BLANK_LINE_START = re.compile(r" *")
_ENDLESS = 1 << 30
_MOST_ITEMS = 1000
"""Of two lists together; longer ones are written anew, for comparing them takes long."""
_ITEM_START = re.compile(r" *- +")


def spec_text(document: Mapping[str, Any]) -> str:
    """Return a spec document as YAML."""
    return document_text(dict(document))


def revised(text: str, document: Mapping[str, Any]) -> str:
    """Return the YAML *text* changed so that it means *document*."""
    try:
        before = parse_document(text)
        if _same(before, document):
            return text
        made = _revised(text, before, document)
        if _same(parse_document(made), document):
            return made
    except (SpecError, _CannotBeChangedError, ValueError):
        pass
    return spec_text(document)


def lines_of(text: str, paths: Iterable[str]) -> dict[str, int]:
    """Return the lines of a readable *text* on which fields are written.

    They count from 1. A field that is missing has the line of what it is missing in.
    """
    try:
        root = text_places(text)
    except SpecError:  # JSON that is no YAML
        return {}
    return {path: line for path in paths if (line := _line(root, path)) is not None}


def _line(here: TextPlace | None, path: str) -> int | None:
    line = None
    for part in path.split("."):
        if here is not None and here.keys is not None:
            at = next((at for at, key in enumerate(here.keys) if key.text == part), None)
            if at is None:
                return line
            line, here = here.keys[at].line + 1, here.items[at]
        elif here is not None and part.isdecimal() and int(part) < len(here.items):
            here = here.items[int(part)]
            line = here.line + 1
        else:
            return line
    return line


class _CannotBeChangedError(Exception):
    """The text is written in a way that cannot be changed in part."""


@dataclass(frozen=True, slots=True)
class _Replacement:
    """A part of the text, and what takes its place."""

    start: int
    end: int
    text: str


def _revised(text: str, before: Any, document: Mapping[str, Any]) -> str:
    root = text_places(text)
    if root is None:  # nothing but comments
        kept = text.rstrip()
        return (f"{kept}\n" if kept else "") + spec_text(document)
    changes = sorted(_Changes(text).of(root, before, dict(document)), key=lambda one: (one.start, one.end))
    for one in reversed(changes):
        text = text[: one.start] + one.text + text[one.end :]
    return text


class _Changes:
    """The replacements in a text that make one value of another."""

    def __init__(self, text: str) -> None:
        self._text = text

    def of(self, at: TextPlace, old: Any, new: Any) -> Iterator[_Replacement]:
        """Yield the replacements inside a collection.

        Raises:
            _CannotBeChangedError: it has to be written anew.

        """
        if not (old and new and type(old) is type(new) and isinstance(old, dict | list)):
            raise _CannotBeChangedError
        if at.in_brackets:
            yield from self._in_brackets(at, old, new)
        elif isinstance(old, dict):
            yield from self._mapping(at, old, new)
        else:
            yield from self._list(at, old, new)

    def _in_brackets(self, at: TextPlace, old: Any, new: Any) -> Iterator[_Replacement]:
        """Replace values between brackets, where as many stand there afterwards."""
        was, becomes = (list(one.items()) if isinstance(one, dict) else list(enumerate(one)) for one in (old, new))
        if [key for key, _ in was] != [key for key, _ in becomes]:
            raise _CannotBeChangedError
        for inner, (_, one), (_, other) in zip(at.items, was, becomes, strict=True):
            if not _same(one, other):
                yield from self._or_anew(inner, one, other, partial(self._value, inner, other))

    def _or_anew(
        self, at: TextPlace, old: Any, new: Any, anew: Callable[[], _Replacement]
    ) -> Sequence[_Replacement]:  # fmt: skip
        try:
            return list(self.of(at, old, new))
        except _CannotBeChangedError:
            return [anew()]

    def _value(self, at: TextPlace, new: Any) -> _Replacement:
        return _Replacement(at.start, at.end, inline(new))

    def _mapping(self, at: TextPlace, old: dict[Any, Any], new: dict[Any, Any]) -> Iterator[_Replacement]:
        pairs = dict(zip(old, zip(at.keys or (), at.items, strict=True), strict=True))
        for key, (name, value) in pairs.items():
            if key not in new:
                yield self._without(name.start, value.end, _BLANK_LINE_START)
            elif not _same(old[key], new[key]):
                yield from self._or_anew(value, old[key], new[key], partial(self._entry, name, value, new[key]))
        kept = [pairs[key] for key in old if key in new]
        if not kept:
            raise _CannotBeChangedError
        (first, _), (_, last) = kept[0], kept[0]
        is_above = not self._text[self._line_start(first.start) : first.start].strip()
        for key, value in new.items():
            if key in old:
                last, is_above = pairs[key][1], False
                continue
            added = f"{' ' * at.column}{_block({key: value}, at.column)}"
            yield self._above(first, added) if is_above else self._below(last, added)

    def _entry(self, name: TextPlace, value: TextPlace, new: Any) -> _Replacement:
        """Write the value of a key anew: behind the key, or as a block below it."""
        colon = self._text.index(":", name.end) + 1
        if isinstance(new, dict | list) and new and not value.in_brackets:
            column = name.column + 2
            return _Replacement(colon, value.end, f"\n{' ' * column}{_block(new, column)}")
        is_behind = value.start > colon and "\n" not in self._text[colon : value.start]
        if value.in_brackets or (value.text is not None and is_behind):
            return _Replacement(value.start, value.end, inline(new))
        return _Replacement(colon, value.end, f" {inline(new)}")

    def _list(self, at: TextPlace, old: list[Any], new: list[Any]) -> Iterator[_Replacement]:
        if len(old) + len(new) > _MOST_ITEMS:
            raise _CannotBeChangedError
        matcher = SequenceMatcher(a=[*map(_canonical, old)], b=[*map(_canonical, new)], autojunk=False)
        for _, a, a_end, b, b_end in (one for one in matcher.get_opcodes() if one[0] != "equal"):
            both = min(a_end - a, b_end - b)
            for place in range(both):
                yield from self._item(at.items[a + place], old[a + place], new[b + place])
            for item in at.items[a + both : a_end]:
                yield self._without(item.start, item.end, _ITEM_START)
            lines = [f"{' ' * at.column}- {_block(one, at.column + 2)}" for one in new[b + both : b_end]]
            if lines:
                place, added = a + both, "\n".join(lines)
                yield self._below(at.items[place - 1], added) if place else self._above(at.items[0], added)

    def _item(self, item: TextPlace, old: Any, new: Any) -> Sequence[_Replacement]:
        anew = partial(self._value if item.in_brackets else self._item_block, item, new)
        return self._or_anew(item, old, new, anew)

    def _item_block(self, item: TextPlace, new: Any) -> _Replacement:
        return _Replacement(item.start, item.end, _block(new, item.column))

    def _above(self, at: TextPlace, lines: str) -> _Replacement:
        start = self._line_start(at.start)
        return _Replacement(start, start, f"{lines}\n")

    def _below(self, at: TextPlace, lines: str) -> _Replacement:
        end = self._line_end(at.end)
        return _Replacement(end, end, f"\n{lines}")

    def _without(self, start: int, end: int, before: re.Pattern[str]) -> _Replacement:
        """Take whole lines out; what has something else on its first line is written anew with what is around it."""
        first, last = self._line_start(start), self._line_end(end)
        if not before.fullmatch(self._text[first:start]):
            raise _CannotBeChangedError
        return _Replacement(first, min(last + 1, len(self._text)), "")

    def _line_start(self, place: int) -> int:
        return self._text.rfind("\n", 0, place) + 1

    def _line_end(self, place: int) -> int:
        found = self._text.find("\n", place)
        return len(self._text) if found < 0 else found


def inline(value: Any) -> str:
    """Return a value as YAML on one line."""
    return document_text(value, width=_ENDLESS, flow=True).removesuffix("\n").removesuffix("\n...")


def _block(value: Any, column: int) -> str:
    """Return a value as a block whose first line begins at a column."""
    if not isinstance(value, dict | list) or not value:
        return inline(value)
    return document_text(value).rstrip("\n").replace("\n", f"\n{' ' * column}")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _same(one: Any, other: Any) -> bool:
    """Return True where two documents say the same; 1, 1.0 and true are not the same."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)
