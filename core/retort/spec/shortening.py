"""Leave out of a spec document what its defaults and presets say."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from retort.errors import SpecError
from retort.spec import AnySpec, parse_spec
from retort.spec.assignment import take_out, value_at

_KEPT = frozenset(
    {"name", "data", "teacher", "student", "student.model", "teacher.train.model", "training.epochs", "training.imgsz"}
)
"""What people want to see although a default may say it."""


def shortened(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shortest document that means the same spec.

    Sections and fields are left out one by one where the spec stays equal. What is no spec stays as it is.
    """
    short = copy.deepcopy(dict(document))
    try:
        spec = parse_spec(short)
    except SpecError:
        return short
    for path in _paths(document):
        if path in _KEPT or (value_at(short, path) is None and not _stands(short, path)):
            continue
        without = copy.deepcopy(short)
        take_out(without, path)
        if _means(without, spec):
            short = without
    return short


def _paths(section: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the fields, those of lists of sections too, each section before what it holds."""
    for name, value in section.items():
        path = f"{above}{name}"
        yield path
        if isinstance(value, Mapping):
            yield from _paths(value, f"{path}.")
        elif isinstance(value, list):
            for place, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from _paths(item, f"{path}.{place}.")


def _stands(document: Mapping[str, Any], path: str) -> bool:
    above, _, name = path.rpartition(".")
    section = value_at(document, above) if above else document
    return isinstance(section, Mapping) and name in section


def _means(document: dict[str, Any], spec: AnySpec) -> bool:
    try:
        return parse_spec(document) == spec
    except SpecError:
        return False
