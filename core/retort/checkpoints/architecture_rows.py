"""Check the description from which a network is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from retort.checkpoints import allowed
from retort.checkpoints.records import Flaw

_MOST_ROWS = 400
_MOST_REPEATS = 100
_MOST_BUILT = 1000
"""Of all layers together, as often as they are repeated; the deepest networks have a tenth."""
_LARGEST = 65_536
"""Of channels, classes and sizes."""
_LARGEST_MULTIPLE = 16
_DEEPEST = 8
_CHECKED = frozenset({"backbone", "head", "names"})
"""Parts of a description that hold more than sizes."""
_TORCH = {one.name for one in allowed.LAYERS if one.module.startswith("torch.nn.modules.")}
_NAMES = {one.name for one in allowed.LAYERS | allowed.SET_ASIDE if one.module.startswith("ultralytics.nn.modules")}
_ACTIVATION = re.compile(r"(?:torch\.)?nn\.([A-Za-z0-9]+)\(([-+\w\s.,=]*)\)")
"""What upstream makes a network's activation of: a class of torch with numbers."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,40}")
"""Text among arguments: a name, for upstream evaluates whatever else it is."""


def check(described: Any) -> None:
    """Insist that *described* names known layers and reasonable sizes.

    Raises:
        Flaw: it does not.

    """
    if not isinstance(described, dict):
        raise Flaw("it lacks the description that it was built from")
    if (activation := described.get("activation")) is not None:
        _check_activation(activation)
    for part in ("backbone", "head"):
        rows = described.get(part)
        if not isinstance(rows, list) or len(rows) > _MOST_ROWS:
            raise Flaw(f"its description has no {part} of at most {_MOST_ROWS} rows")
        for row in rows:
            _check_row(row)
    for key, value in described.items():
        if not isinstance(key, str):
            raise Flaw("its description has a key that is no text")
        if isinstance(value, int | float | list | tuple) and key not in _CHECKED:
            _check_size(key, value)
    _check_number(described, _check_scales(described))


def _check_number(described: dict[str, Any], deepest: float) -> None:
    rows = [*described["backbone"], *described["head"]]
    if (number := sum(max(1, row[1] * deepest) if row[1] > 1 else 1 for row in rows)) > _MOST_BUILT:
        raise Flaw(f"its description is of {number:.0f} layers; at most {_MOST_BUILT} are built")


def _check_activation(activation: Any) -> None:
    found = _ACTIVATION.fullmatch(activation.strip()) if isinstance(activation, str) and len(activation) < 200 else None
    if found is None or found[1] not in _TORCH:
        raise Flaw(f"its description has the activation {str(activation)[:80]!r}, which is none of torch with numbers")


def _check_row(row: Any) -> None:
    if not isinstance(row, list | tuple) or len(row) != 4:
        raise Flaw("a row of its description has not four parts")
    _, repeats, name, arguments = row
    if type(repeats) is not int or not 0 <= repeats <= _MOST_REPEATS:
        raise Flaw(f"its description repeats a layer {str(repeats)[:20]} times; at most {_MOST_REPEATS} are built")
    known = isinstance(name, str) and (name.removeprefix("nn.") in _TORCH if name.startswith("nn.") else name in _NAMES)
    if not known:
        raise Flaw(f"its description has the layer {str(name)[:80]!r}, which is no permitted one")
    if not isinstance(arguments, list | tuple):
        raise Flaw("a row of its description has no list of arguments")
    _check_size(name, row[0])
    _check_size(name, arguments)


def _check_size(name: str, value: Any) -> None:
    for number in _numbers(value):
        if not abs(number) <= _LARGEST:
            raise Flaw(f"its description gives {name[:40]} the number {number!r:.20}; the largest is {_LARGEST}")


def _numbers(value: Any, depth: int = 0) -> Iterator[float]:
    if depth > _DEEPEST:
        raise Flaw("its description has lists that lie too deep in one another")
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, str):
        if not _WORD.fullmatch(value):
            raise Flaw(f"its description has the text {value[:40]!r} among its arguments")
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one, depth + 1)


def _check_scales(described: dict[str, Any]) -> float:
    """Insist on multiples that leave a network's depth and width within reach; return the largest of depth."""
    scales = described.get("scales") or {}
    rows = [*(scales.values() if isinstance(scales, dict) else [scales]), _multiples(described)]
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != 3 or not all(isinstance(one, int | float) for one in row):
            raise Flaw("its description has scales that are not three numbers each")
        if not (0 <= row[0] <= _LARGEST_MULTIPLE and 0 <= row[1] <= _LARGEST_MULTIPLE and 0 < row[2] <= _LARGEST):
            raise Flaw(f"its description has the scale {list(row)!r:.60}, which is too large")
    return float(max(row[0] for row in rows))


def _multiples(described: dict[str, Any]) -> list[Any]:
    found = [described.get(name) for name in ("depth_multiple", "width_multiple")]
    return [*(1 if one is None else one for one in found), _LARGEST]
