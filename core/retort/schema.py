"""Families of variants: one file declares one, and being in the package registers it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError, PydanticKnownError


class FrozenModel(BaseModel):
    """Immutable value without unknown fields or non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class StoredModel(FrozenModel):
    """Stored value that ignores unknown fields when it is read."""

    model_config = ConfigDict(extra="ignore")


def absent(value: object) -> bool:
    """Return True if a field with this value is not written.

    It is meant for ``exclude_if``: fields with None have always been left out.
    """
    return value is None


class InputModel(FrozenModel):
    """Value written by people, with strict types.

    A number is a number and never a text that looks like one.
    """

    model_config = ConfigDict(strict=True)


def field_error(message: str, *, at: str | None = None, hint: str | None = None) -> PydanticCustomError:
    """Return a validation error for the field *at*, with a hint.

    *at* is a dotted path inside the value; without it the mistake lies at the whole value. Raise it from a validator.
    """
    context = {"at": at, "hint": hint}
    return PydanticCustomError("mistake", "{text}", {"text": message, **context})


def _local_path(value: str) -> str:
    """Accept a path that a file system can hold."""
    if "\0" in value:
        raise field_error("must not hold a NUL character", hint="a folder with a data.yaml, or that file")
    return value


LocalPath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_local_path)]


def without_default(schema: dict[str, Any]) -> None:
    """Remove a field's default from its JSON Schema.

    It is for fields where leaving the field out means something else. Generated clients send the defaults that a schema
    names: sent, they would replace what a preset fills in.
    """
    schema.pop("default", None)


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a value that is listed twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise field_error(f"{str(value)!r} is listed twice", at=str(index), hint="list each value once")
    return values


def discover(package: str, base: type[FrozenModel]) -> list[type[FrozenModel]]:
    """Return the concrete *base* variants in *package*, by name.

    Every module of the package is imported.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    found: set[type[FrozenModel]] = set()
    waiting = [base]
    while waiting:
        cls = waiting.pop()
        waiting.extend(cls.__subclasses__())
        if cls.__module__.startswith(f"{package}.") and not cls.__module__.endswith(".base"):
            found.add(cls)
    return sorted(found, key=lambda cls: cls.__name__)


def tagged_union(package: str, base: type[FrozenModel], tag: str = "kind") -> Any:
    """Return the union of all *base* variants in *package*, discriminated by *tag*."""
    found = discover(package, base)
    if len(found) == 1:
        return Annotated[found[0], BeforeValidator(_tagged(found[0], tag))]
    return Annotated[reduce(or_, found), Field(discriminator=tag)]


def _tagged(only: type[FrozenModel], tag: str) -> Any:
    """Insist on the tag where pydantic does not: a union of one has no discriminator."""
    name = str(only.model_fields[tag].default)

    def check(value: object) -> object:
        if not isinstance(value, dict) or value.get(tag) == name:
            return value
        if tag not in value:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": f"'{tag}'"})
        context = {"discriminator": f"'{tag}'", "tag": str(value[tag]), "expected_tags": f"'{name}'"}
        raise PydanticKnownError("union_tag_invalid", context)

    return check


def require_tag(tag: str) -> Any:
    """Make *tag* required in a variant's JSON Schema.

    It is required in a document; in code it has its default.
    """

    def extend(schema: dict[str, Any]) -> None:
        schema["required"] = sorted({tag, *schema.get("required", [])})

    return extend
