"""Read a network's class names from its file, without torch and without running it."""

from __future__ import annotations

from pathlib import Path

from retort import class_names
from retort.checkpoints import opening
from retort.checkpoints.coding import Description
from retort.errors import ModelError


def stored_names(file: Path) -> tuple[str, ...] | None:
    """Return the class names of the network in the weights *file*.

    They are in order; None where it tells none. Nothing in it is run: objects are read as values.
    """
    try:
        return described_names(opening.check(file, file.name))
    except ModelError:  # what loads it says how
        return None


def described_names(described: Description) -> tuple[str, ...] | None:
    """Return the ordered class names of a network, or None."""
    names = class_names.as_names(opening.names_of(described))
    return tuple(names.values()) if names and sorted(names) == list(range(len(names))) else None
