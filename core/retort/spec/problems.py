"""Turn validation errors into sentences: where, what is wrong, what would be right."""

from __future__ import annotations

import difflib
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from retort.errors import Problem


def explain(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return one Problem per mistake in *error*, found while validating *model*."""
    return [_problem(item, model) for item in error.errors(include_url=False)]


def _problem(item: Any, model: type[BaseModel]) -> Problem:
    location: tuple[str | int, ...] = item["loc"]
    path = ".".join(str(part) for part in location) or "$"
    kind = item["type"]
    if kind == "extra_forbidden":
        known = _siblings(model, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        return Problem(
            path,
            f"unknown field {location[-1]!r}",
            f"did you mean {close[0]!r}?" if close else f"known fields here: {', '.join(sorted(known))}",
        )
    if kind == "union_tag_invalid":
        tags = item["ctx"]["expected_tags"].replace("'", "")
        tag = item["ctx"]["tag"]
        close = difflib.get_close_matches(str(tag), tags.split(", "), n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        return Problem(path, f"unknown {item['ctx']['discriminator'].strip(chr(39))} {tag!r}", f"{guess}known: {tags}")
    if kind == "literal_error":
        options = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        close = difflib.get_close_matches(str(item["input"]), options.split(", "), n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        return Problem(path, f"{item['input']!r} is not one of the known values", f"{guess}known: {options}")
    if kind == "missing":
        return Problem(path, "is required", f"add the field {location[-1]!r}")
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return Problem(path, message, f"got {item['input']!r}" if _short(item["input"]) else None)


def _short(value: object) -> bool:
    return isinstance(value, str | int | float | bool | None) and len(repr(value)) <= 80


def _siblings(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Names of the fields that the model at *location* knows."""
    here: list[type[BaseModel]] = [model]
    for part in location:
        if isinstance(part, int):
            continue
        following = [
            found for cls in here if part in cls.model_fields for found in _models(cls.model_fields[part].annotation)
        ]
        tagged = [cls for cls in here if part in [field.default for field in cls.model_fields.values()]]
        here = following or tagged or here
    return sorted({name for cls in here for name in cls.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Union or get_args(annotation):
        return [found for part in get_args(annotation) for found in _models(part)]
    return []
