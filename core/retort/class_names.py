"""Compare class names: one rule for networks, data, reviews and reports.

Two names are the same when they are equal, letter by letter: a data set may tell ``Car`` from ``car``. Names that
differ only in case, spaces, hyphens, underscores, invisible letters or letters that look alike are near; they are told,
never taken for the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

ITEM = "item"
"""The one class of ``single_cls``, as upstream names it."""
_SHOWN = 3
_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u03bf\u03b1\u03bd\u03c1\u0131",
    "aeopcyxijsdoavpi",
)
"""Cyrillic and Greek letters that look like Latin ones, and the i without its dot."""
_LISTED = 5


def as_names(names: Any) -> dict[int, str]:
    """Return a network's class names by number.

    Networks carry a list, a tuple, or a mapping. What is none of these has no names.
    """
    if isinstance(names, list | tuple):
        return {index: str(name) for index, name in enumerate(names)}
    if not isinstance(names, Mapping):
        return {}
    try:
        return {int(index): str(name) for index, name in sorted(names.items(), key=lambda item: int(item[0]))}
    except (TypeError, ValueError):
        return {}


def pairs(ours: Mapping[int, str], theirs: Mapping[int, str]) -> list[tuple[int, int]]:
    """Return the numbers of the classes that both name, sorted by ours.

    Equal mappings are paired one to one, whatever their names. Of equal names in *theirs* the first counts.
    """
    if dict(ours) == dict(theirs):
        return [(index, index) for index in sorted(ours)]
    known: dict[str, int] = {}
    for index, name in sorted(theirs.items()):
        known.setdefault(name, index)
    return [(index, known[name]) for index, name in sorted(ours.items()) if name in known]


def near(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Return names of one side with a near one of the other."""
    free: dict[str, str] = {}
    for name in theirs:
        if name not in ours:
            free.setdefault(plain(name), name)
    return [(name, free[plain(name)]) for name in ours if name not in theirs and plain(name) in free]


def alike(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the groups of near names within one list."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[plain(name)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def warning(data: Sequence[str], network: Sequence[str], who: str) -> str | None:
    """Say which classes *who* names nearly as the data does.

    The sentence says what would make them one; None where there is none.
    """
    found = near(data, network)
    if not found:
        return None
    shown = ", ".join(f"{ours!r} of the data is {theirs!r} there" for ours, theirs in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"{who} names {len(found)} of the data's classes nearly, but not equally: {shown}{more}. Names are compared "
        f"letter by letter, so they are different classes; if the same is meant, write {found[0][1]!r} in data.yaml"
    )


LEARNED = "These are learned from labels alone"
JUDGED = "These count as never found in its mAP"
"""What it means that a network does not know some classes: of a teacher, and of a network that is measured."""


def missing(data: Sequence[str], network: Sequence[str], who: str, meaning: str = LEARNED) -> str | None:
    """Say which of the data's classes *who* does not name, and with what *meaning*.

    None where it names all. Near names are told with what would make them one.
    """
    lacking = [name for name in data if name not in network]
    if not lacking or tuple(data) == tuple(network):
        return None
    near_ones = warning(data, network, "it")
    return (
        f"{who} does not know {len(lacking)} of the data's {len(data)} classes: {listed(lacking)}. "
        f"{meaning}{f'; {near_ones}' if near_ones else ''}"
    )


def listed(names: Sequence[str]) -> str:
    """Return the first of *names* for a sentence, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(map(repr, names[:_LISTED]))}{more}"


def plain(name: str) -> str:
    """Return what near names have in common."""
    shown = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return re.sub(r"[\s_-]+", "", shown).casefold().translate(_ALIKE) or name
