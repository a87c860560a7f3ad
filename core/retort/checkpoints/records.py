"""Define the plain records that a checkpoint's pickle is read into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retort.checkpoints.allowed import Global


class Flaw(ValueError):
    """Flaw of a file, in words that follow its name and a colon."""


class Ordered(dict[Any, Any]):
    """Mapping that torch keeps in order."""


class Size(tuple[int, ...]):
    """Lengths of a tensor's dimensions, as a value."""

    __slots__ = ()


class Set(tuple[Any, ...]):
    """Items of a set, in the file's order."""

    __slots__ = ()


class DeviceName(str):
    """Name of a device."""

    __slots__ = ()


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """Numbers of one type that lie in a row in the archive."""

    key: str
    kind: str
    """As safetensors calls it, such as F16."""
    count: int
    itemsize: int


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """View of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool

    @property
    def count(self) -> int:
        """Return the number of its values."""
        found = 1
        for length in self.shape:
            found *= length
        return found


@dataclass(frozen=True, eq=False, slots=True)
class Parameter:
    """Tensor that is trained."""

    tensor: Tensor
    requires_grad: bool


@dataclass(frozen=True, eq=False, slots=True)
class NumpyType:
    """Type of a numpy scalar."""

    code: str


@dataclass(eq=False, slots=True)
class Instance:
    """Object that was in the file: its class by name, and its attributes."""

    of: Global
    attributes: dict[str, Any] | None = None
