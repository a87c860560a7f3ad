"""Parse references to registered models: name and digest."""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = "model:"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
"""Of a registered model: a job's name with ``-teacher`` or ``-student`` fits."""
SHA256 = r"[0-9a-f]{64}"
PATTERN = rf"{PREFIX}{NAME}@sha256:{SHA256}"
FORM = "model:NAME@sha256:DIGEST, with all 64 hexadecimal digits in lower case"
_WHOLE = re.compile(rf"{PREFIX}({NAME})@sha256:({SHA256})")
_SHOWN_DIGITS = 12


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


def title(weights: str) -> str:
    """Return the short name of weights for tables.

    It names a weights file without suffix, or a registered model with a short digest.
    """
    reference = parse(weights)
    if reference is None:
        return weights.removesuffix(".pt")
    return f"{reference.name}@{reference.sha256[:_SHOWN_DIGITS]}"
