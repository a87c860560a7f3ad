"""Find the fields of a spec that a failure's hint asks to change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retort.errors import FieldProblem, SpecError

_FIELD = re.compile(r"\b[a-z_]+(?:\.[a-z_0-9]+)+\b")
_TRUE, _FALSE = "true", "false"
PREFIX = "change."
"""Before the names of the inputs of such fields."""


@dataclass(frozen=True, slots=True)
class ChangeableField:
    """A field with its present value, to be changed in one input."""

    path: str
    value: bool | float | str | None

    @property
    def kind(self) -> str:
        """How the input takes it."""
        if isinstance(self.value, bool):
            return "choice"
        return "number" if isinstance(self.value, int | float) else "text"


def changeable(failure: Mapping[str, Any], spec: Mapping[str, Any]) -> tuple[ChangeableField, ...]:
    """Return the fields of *spec* that hint and message of *failure* name.

    They may name lists and sections, too: those are changed in the whole spec.
    """
    told = f"{failure.get('hint') or ''} {failure.get('message') or ''}"
    found: dict[str, ChangeableField] = {}
    for path in _FIELD.findall(told):
        known, value = _look_up(spec, path)
        if known and not isinstance(value, dict | list):
            found[path] = ChangeableField(path, value)
    return tuple(found.values())


def patch_of(given: Mapping[str, str], offered: tuple[ChangeableField, ...]) -> dict[str, Any]:
    """Return the changes that a form asks for, as a merge patch.

    Raises:
        SpecError: a value is not of the kind of the field, or no field is changed.

    """
    patch: dict[str, Any] = {}
    for field in offered:
        text = given.get(PREFIX + field.path)
        if text is None or text == shown(field.value):
            continue
        section = patch
        *parents, last = field.path.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = _value(field, text)
    if not patch:
        hint = "change a value, or retry the job as it is"
        raise SpecError([FieldProblem("$", "is what has failed: nothing is changed", hint)])
    return patch


def shown(value: object) -> str:
    """Return a value as an input shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    return str(value)


def _value(field: ChangeableField, text: str) -> Any:
    if text == "":
        return None
    if field.kind == "choice":
        return text == _TRUE
    if field.kind == "number":
        try:
            number = float(text)
        except ValueError:
            raise SpecError([FieldProblem(field.path, "must be a number", f"now {shown(field.value)}")]) from None
        return int(number) if number.is_integer() else number
    return text


def _look_up(spec: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    value: Any = spec
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value
