"""Families of variants: one file declares one, and being in the package registers it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A value: immutable, strict about unknown fields, with numbers that are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def members(package: str, base: type[Frozen]) -> list[type[Frozen]]:
    """Import every module of *package* and return the concrete *base* variants found there, by name."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    found: list[type[Frozen]] = []
    waiting = [base]
    while waiting:
        cls = waiting.pop()
        waiting.extend(cls.__subclasses__())
        if cls.__module__.startswith(f"{package}.") and not cls.__module__.endswith(".base"):
            found.append(cls)
    return sorted(set(found), key=lambda cls: cls.__name__)


def family(package: str, base: type[Frozen], discriminator: str = "kind") -> Any:
    """Join every *base* variant declared in *package* into one union, told apart by *discriminator*."""
    union = reduce(or_, members(package, base))
    found = members(package, base)
    return Annotated[union, Field(discriminator=discriminator)] if len(found) > 1 else union
