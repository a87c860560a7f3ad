"""Read documents and lines of text from strangers, bounded; write documents.

This is the one reader of YAML for all that comes from outside: specs, descriptions of data and networks, labels. It
takes YAML's events one by one and makes plain values of them, so that size, depth and number are known before there are
values; aliases, merges and tags, by which a short text becomes a large document or an object, are no part of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from retort.errors import DataError, FieldProblem, SpecError


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Limits on a document's size, checked before its values are made."""

    most_bytes: int = 8 << 20
    most_values: int = 200_000
    """Mappings, lists, keys and plain values together."""
    most_depth: int = 64
    """Mappings and lists within each other."""


AS_USUAL = DocumentLimits()


def parse_document(text: str | bytes, limits: DocumentLimits = AS_USUAL) -> Any:
    """Read YAML or JSON text into plain values.

    Raises:
        SpecError: the text is neither, says the same key twice, or is too large, deep or long.

    """
    if len(text) > limits.most_bytes:
        message = f"it is larger than {limits.most_bytes >> 20 or 1} MiB"
        raise SpecError([FieldProblem("$", message, "a document of that kind is smaller")])
    try:
        text = text.decode() if isinstance(text, bytes) else text
        return _json(text, limits) if text.lstrip().startswith("{") else _yaml(text, limits)
    except yaml.MarkedYAMLError as error:
        raise SpecError([_unreadable(error)]) from error
    except (yaml.YAMLError, ValueError) as error:
        reason = str(error)[:_LONGEST_REASON]
        raise SpecError([FieldProblem("$", f"not readable as YAML or JSON: {reason}", _HINT)]) from error
    except RecursionError as error:
        raise SpecError([FieldProblem("$", _TOO_DEEP, _HINT)]) from error


_WRITER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _DocumentWriter(_WRITER):  # type: ignore[misc] # in C where there is one
    """Writer whose texts are texts to our reader, too, and that repeats what stands twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write everything out."""
        return True


def _written_text(writer: Any, text: str) -> Any:
    """Quote what YAML 1.2 would take for a number, and what could end a line."""
    is_text = len(text) <= _LONGEST_NUMBER and isinstance(_plain(text), str)
    style = None if is_text else "'"
    return writer.represent_scalar(f"{_CORE}str", text, style=style if text.isprintable() else '"')


_DocumentWriter.add_representer(str, _written_text)


def document_text(value: Any, *, width: int = 100, flow: bool = False) -> str:
    """Return a value as YAML; *flow* writes mappings and lists in brackets."""
    return str(
        yaml.dump(
            value, Dumper=_DocumentWriter, sort_keys=False, allow_unicode=True, width=width, default_flow_style=flow
        )
    )


@dataclass(frozen=True, slots=True)
class TextPlace:
    """Where a value stands in a YAML text."""

    start: int
    end: int
    """Behind its last character; a comment behind it does not belong to it."""
    line: int
    """Counted from 0, as the column is."""
    column: int
    in_brackets: bool = False
    """Whether it is a mapping or list in flow style."""
    text: str | None = None
    """Of a plain value, without quotes."""
    items: list[TextPlace] = field(default_factory=list)
    """Of a list; of a mapping, the values."""
    keys: list[TextPlace] | None = None
    """Of a mapping, in the order of its values."""


def text_places(text: str) -> TextPlace | None:
    """Return where the values of a document stand; None for an empty one.

    Raises:
        SpecError: it is not one that ``parse_document`` reads, or JSON that is no YAML.

    """
    parse_document(text)
    open_: list[tuple[Any, list[TextPlace]]] = []
    made = None
    try:
        for event in yaml.parse(text, Loader=_PARSER):
            if isinstance(event, yaml.CollectionStartEvent):
                open_.append((event, []))
                continue
            if isinstance(event, yaml.CollectionEndEvent):
                made = _closed(*open_.pop(), event)
            elif isinstance(event, yaml.ScalarEvent):
                made = _place(event, _end(text, event), text=event.value)
            else:
                continue
            if open_:
                open_[-1][1].append(made)
    except yaml.MarkedYAMLError as error:
        raise SpecError([_unreadable(error)]) from error
    return made


def _place(event: Any, end: int, **given: Any) -> TextPlace:
    mark = event.start_mark
    return TextPlace(mark.index, end, mark.line, mark.column, **given)


def _closed(start: Any, inner: list[TextPlace], end: yaml.Event) -> TextPlace:
    """Return a mapping's or list's place; for YAML's reader, one without brackets goes on to what comes next."""
    mark: Any = end.end_mark
    last = mark.index if start.flow_style or not inner else inner[-1].end
    if isinstance(start, yaml.MappingStartEvent):
        return _place(start, last, in_brackets=bool(start.flow_style), items=inner[1::2], keys=inner[::2])
    return _place(start, last, in_brackets=bool(start.flow_style), items=inner)


def _end(text: str, event: Any) -> int:
    start, end = int(event.start_mark.index), int(event.end_mark.index)
    return start + len(text[start:end].rstrip()) if event.style in {"|", ">"} else end


_TOO_DEEP = "nested too deeply"
_HINT = "write mappings, lists, texts and numbers, in UTF-8, and each key once"
_LONGEST_REASON = 300


def _json(text: str, limits: DocumentLimits) -> Any:
    """Read JSON; what begins like it but is not may still be YAML's flow style."""
    if sum(map(text.count, ",[{")) > limits.most_values:
        raise ValueError(_too_many(limits))
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError:
        return _yaml(text, limits)
    level = [found]
    for _ in range(limits.most_depth + 1):
        inner = [one for one in level if isinstance(one, dict | list)]
        if not inner:
            return found
        level = [value for one in inner for value in (one.values() if isinstance(one, dict) else one)]
    raise ValueError(_TOO_DEEP)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a mapping; the usual readers let the last of two equal keys win without a word."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(_twice(key))
        found[key] = value
    return found


def _twice(key: str) -> str:
    return f"the key {key[:200]!r} appears twice in one mapping"


def _too_many(limits: DocumentLimits) -> str:
    return f"it holds more than {limits.most_values:,} values"


def _unreadable(error: yaml.MarkedYAMLError) -> FieldProblem:
    mark = error.problem_mark or error.context_mark
    place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return FieldProblem("$", f"not valid YAML or JSON{place}: {error.problem or error.context}", _HINT)


_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only its events are used; the one in C is ten times as fast."""


def _yaml(text: str, limits: DocumentLimits) -> Any:
    builder = _Builder(limits)
    for event in yaml.parse(text, Loader=_PARSER):
        builder.take(event)
    return builder.document


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is not at its end."""

    made: dict[Any, Any] | list[Any]
    seen: set[str] = field(default_factory=set)
    """Keys of a mapping as they are written."""
    key: Any = None
    has_key: bool = False


class _Builder:
    """Makes plain values of YAML's events."""

    def __init__(self, limits: DocumentLimits) -> None:
        self.document: Any = None
        self._limits, self._number, self._documents = limits, 0, 0
        self._open: list[_Frame] = []

    def take(self, event: yaml.Event) -> None:
        """Take the next event."""
        if isinstance(event, yaml.ScalarEvent):
            self._add(event, _scalar(event))
        elif isinstance(event, yaml.MappingStartEvent):
            self._begin(event, {}, "map")
        elif isinstance(event, yaml.SequenceStartEvent):
            self._begin(event, [], "seq")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.AliasEvent):
            _fail(event, "aliases are not accepted; write it out")
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                _fail(event, "a second document begins; one is expected")

    def _begin(self, event: Any, made: dict[Any, Any] | list[Any], name: str) -> None:
        if event.tag not in {None, "!", f"{_CORE}{name}"}:
            _fail(event, f"the tag {event.tag[:100]!r} is not accepted")
        if len(self._open) >= self._limits.most_depth:
            _fail(event, _TOO_DEEP)
        self._add(event, made)
        self._open.append(_Frame(made))

    def _add(self, event: Any, value: Any) -> None:
        """Put a value where it belongs: into the list or mapping that is open, or at the top."""
        self._number += 1
        if self._number > self._limits.most_values:
            _fail(event, _too_many(self._limits))
        if not self._open:
            self.document = value
            return
        frame = self._open[-1]
        if isinstance(frame.made, list):
            frame.made.append(value)
        elif frame.has_key:
            frame.made[frame.key], frame.has_key = value, False
        else:
            self._name(frame, event, value)

    def _name(self, frame: _Frame, event: Any, key: Any) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            _fail(event, "a key must be a plain value")
        if isinstance(key, float) or (isinstance(key, int) and abs(key) > _LARGEST_KEY):
            _fail(event, "a key must be a text or a whole number, and no large one")
        if event.value in frame.seen or key in frame.made:
            _fail(event, _twice(event.value))
        frame.seen.add(event.value)
        frame.key, frame.has_key = key, True


def _fail(event: yaml.Event, problem: str) -> None:
    """Refuse the document where *event* stands.

    Raises:
        yaml.MarkedYAMLError: always.

    """
    mark: Any = event.start_mark
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_CORE = "tag:yaml.org,2002:"
_LONGEST_NUMBER = 400
_LARGEST_KEY = 1 << 53
"""Of larger numbers, and of fractions, any number can be found that a mapping takes for nearly the same one: slow."""
_WORDS = {
    **dict.fromkeys(("true", "True", "TRUE"), True), **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("~", "null", "Null", "NULL", ""), None),
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (_INTEGER, int),
    (_FLOAT, float),
    (_INFINITE, lambda text: -math.inf if text.startswith("-") else math.inf),
    (re.compile(r"\.(nan|NaN|NAN)"), lambda _: math.nan),
)
_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),), "bool": (bool,), "int": (int,), "float": (float, int), "str": (str,),
}  # fmt: skip


def _scalar(event: yaml.ScalarEvent) -> Any:
    """Return a plain value by YAML 1.2's core types: 1e-3 is a number, ``on`` and 2026-11-23 are texts."""
    if event.tag is None:
        return _plain(event.value) if event.implicit[0] else event.value
    name = event.tag.removeprefix(_CORE)
    if event.tag in {"!", f"{_CORE}str"}:
        return event.value
    if event.tag == name or name not in _TYPES:
        _fail(event, f"the tag {event.tag[:100]!r} is not accepted")
    value = _plain(event.value)
    if type(value) not in _TYPES[name]:
        _fail(event, f"{event.value[:60]!r} is no {name}")
    return float(value) if name == "float" else value


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "-+.0123456789":
        for pattern, read in _NUMBERS:
            if pattern.fullmatch(text):
                if len(text) > _LONGEST_NUMBER:
                    raise ValueError(f"a number has more than {_LONGEST_NUMBER} digits")
                return read(text)
    return text


_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""Where Python ends a line."""


MOST_XML_DEPTH = 64
"""Elements within each other."""
_LONGEST_TAG = 1 << 20


def check_tags(data: bytes) -> None:
    """Insist that no tag of an XML document is too long.

    A parser makes a mapping of all attributes of an element before anybody sees them.

    Raises:
        DataError: one is.

    """
    begin = 0
    while (end := data.find(b">", begin)) >= 0 or begin < len(data):
        end = end if end >= 0 else len(data)
        if end - begin > _LONGEST_TAG:
            line = data.count(b"\n", 0, begin) + 1
            message = f"line {line}: a tag or text is longer than {_LONGEST_TAG >> 20} MiB"
            raise DataError(message, hint="an annotation has shorter ones")
        begin = end + 1


@dataclass(frozen=True, slots=True)
class LineLimits:
    """Limits on the lines of a text."""

    most_lines: int
    longest: int
    """Characters of a line."""


def lines_of(text: str, shown: str, limits: LineLimits) -> list[str]:
    """Return the lines of *text*, counted before they are made.

    Raises:
        DataError: there are too many, or one is too long.

    """
    if sum(map(text.count, _LINE_ENDS)) > limits.most_lines:
        message = f"{shown} has more than {limits.most_lines:,} lines"
        raise DataError(message, hint="a text file of that kind has fewer")
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if len(line) > limits.longest:
            message = f"{shown}:{number}: the line has {len(line):,} characters, more than {limits.longest:,}"
            raise DataError(message, hint="look at the file: it is no list of such lines")
    return lines
