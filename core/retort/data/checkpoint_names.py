"""Read a network's class names from its file, without torch and without running it."""

from __future__ import annotations

from pathlib import Path

from retort import class_names
from retort.checkpoints import opening, states
from retort.checkpoints.coding import Description
from retort.errors import ModelError


def stored_names(file: Path) -> tuple[str, ...] | None:
    """Return the class names of the network in the weights *file*.

    They are in order; None where it tells none. Nothing in it is run: objects are read as values.
    """
    try:
        return names_in(file, file.name)
    except ModelError:  # what loads it says how
        return None


def names_in(file: Path, name: str) -> tuple[str, ...] | None:
    """Return the ordered class names of the network in *file*, or None.

    People call the file *name*.

    Raises:
        ModelError: it holds no network that can be used.

    """
    if (told := states.teacher_in(file)) is not None:
        return tuple(told["names"])
    if states.is_state(file):
        return opening.open_state(file, name).names
    return described_names(opening.check(file, name))


def described_names(described: Description) -> tuple[str, ...] | None:
    """Return the ordered class names of a network, or None."""
    names = class_names.as_names(opening.names_of(described))
    return tuple(names.values()) if names and sorted(names) == list(range(len(names))) else None
