"""Assign single fields of a spec document by their dotted paths."""

from __future__ import annotations

import copy
from typing import Any

from retort.documents import parse_document
from retort.errors import UserError
from retort.spec.distillation import RECIPES


def is_sweep(document: dict[str, Any]) -> bool:
    """Return True if the document is a sweep, with a spec inside it."""
    return isinstance(document.get("base"), dict)


def assign(document: dict[str, Any], assignment: str, *, written: str = "--set ") -> None:
    """Replace or add one field: ``a.b.0.c=VALUE``; the value is read as YAML.

    *written* is how people write assignments, for what they are told.

    Raises:
        UserError: the assignment is not of that form, or its path leads through something that holds no fields.

    """
    path, equals, text = assignment.partition("=")
    if not equals or not all(path.split(".")):
        hint = f"for example {written}training.epochs=3"
        raise UserError(f"{written}{assignment!r} is not PATH=VALUE", hint=hint)
    try:
        put(document, path, parse_document(text))
    except (ValueError, LookupError) as error:
        raise UserError(f"{written}{assignment!r}: the document has no place {path}") from error


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at a dotted path; mappings on the way are made.

    Raises:
        ValueError: a list has no place of that name.
        LookupError: the path leads through something that holds no fields.

    """
    keys = path.split(".")
    if keys[:1] == ["base"] and is_sweep(document):
        _write_out_losses(document["base"], keys[1:])
    else:
        _write_out_losses(document, keys)
    here: Any = document
    for key in keys[:-1]:
        here = _inside(here, key)
    here[int(keys[-1]) if isinstance(here, list) else keys[-1]] = value


def _write_out_losses(document: dict[str, Any], keys: list[str]) -> None:
    """Write the recipe's losses out where an assignment counts into them and the document leaves them to it."""
    if keys[:2] != ["distillation", "losses"] or len(keys) < 3:
        return
    given = document.setdefault("distillation", {})
    if isinstance(given, dict) and "losses" not in given:
        recipe = str(given.get("recipe", "balanced"))
        given["losses"] = copy.deepcopy(RECIPES.get(recipe, RECIPES["balanced"])["losses"])


def _inside(here: Any, key: str) -> Any:
    """Return what *key* leads to, made where it is missing; LookupError when that holds no fields."""
    found = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
    if isinstance(found, dict | list):
        return found
    raise LookupError(key)


def value_at(document: Any, path: str) -> Any:
    """Return what stands at a dotted path; None where there is nothing."""
    here = document
    for part in path.split("."):
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            here = here[int(part)]
        else:
            here = here.get(part) if isinstance(here, dict) else None
    return here


def take_out(document: dict[str, Any], path: str) -> None:
    """Remove the field at a dotted path, and mappings that have become empty by it."""
    above, _, name = path.rpartition(".")
    section = value_at(document, above) if above else document
    if isinstance(section, dict) and name in section:
        del section[name]
        if above and not section:
            take_out(document, above)
