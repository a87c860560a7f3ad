"""Parse references to registered models: name and digest."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retort.errors import UserError

PREFIX = "model:"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
"""Of a registered model: a job's name with ``-teacher`` or ``-student`` fits."""
SHA256 = r"[0-9a-f]{64}"
PATTERN = rf"{PREFIX}{NAME}@sha256:{SHA256}"
FEWEST_DIGITS = 8
"""Of a digest that is written short."""
FORM = f"model:NAME@sha256:DIGEST, in lower case: all 64 hexadecimal digits, or the first {FEWEST_DIGITS} or more"
WRITTEN = rf"({PREFIX})?{NAME}@(sha256:)?[0-9a-f]{{{FEWEST_DIGITS},64}}"
"""As people write them: tables print ``NAME@DIGITS``."""
_WHOLE = re.compile(rf"{PREFIX}({NAME})@sha256:({SHA256})")
_WRITTEN = re.compile(rf"(?:{PREFIX})?({NAME})@(?:sha256:)?([0-9a-f]{{{FEWEST_DIGITS},64}})")
_SHOWN_DIGITS = 12
_LISTED = 5

Known = Callable[[str], Sequence[str]]
"""Digests of what is registered by a model's name, newest first."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Reference to one registered model: name and digest."""

    name: str
    sha256: str
    """Of the file, in hex."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}@sha256:{self.sha256}"

    @property
    def file_name(self) -> str:
        """Return the file name in a folder of registered models."""
        return f"{self.name}@sha256-{self.sha256}.pt"


def parse(text: str) -> ModelRef | None:
    """Parse a model reference; None when *text* is not one."""
    found = _WHOLE.fullmatch(text)
    return None if found is None else ModelRef(*found.groups())


def is_written(text: str) -> bool:
    """Return True if *text* names a registered model, its digest written short or whole."""
    return _WRITTEN.fullmatch(text) is not None


def complete(text: str, known: Known) -> ModelRef | None:
    """Return the one registered model that *text* means, its digest written short or whole.

    None when *text* is no reference.

    Raises:
        UserError: it means none, or several; the hint lists those that there are.

    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        return None
    name, digits = found.groups()
    digests = known(name)
    meant = [digest for digest in digests if digest.startswith(digits)]
    if len(meant) > 1:
        message = f"{len(meant)} models {name!r} have digests that begin with {digits}"
        raise UserError(message, code="model_not_found", hint=f"write more digits: {_listed(meant)}")
    if not meant:
        message, hint = unknown(ModelRef(name, digits), digests)
        raise UserError(message, code="model_not_found", hint=hint)
    return ModelRef(name, meant[0])


def unknown(reference: ModelRef, digests: Sequence[str]) -> tuple[str, str]:
    """Return message and hint for the unknown model *reference*.

    They say that it names nothing, and what else its name stands for.
    """
    message = f"there is no model {reference.name!r} with the digest sha256:{reference.sha256}"
    if digests:
        return message, f"known by that name, newest first: {_listed(digests)}"
    return message, "nothing is registered by that name; retort models lists what is"


def _listed(digests: Sequence[str]) -> str:
    return ", ".join(f"sha256:{digest}" for digest in digests[:_LISTED])


def title(weights: str) -> str:
    """Return the short name of weights for tables.

    It names a weights file without suffix, or a registered model with a short digest.
    """
    reference = parse(weights)
    if reference is None:
        return weights.removesuffix(".pt")
    return f"{reference.name}@{reference.sha256[:_SHOWN_DIGITS]}"
