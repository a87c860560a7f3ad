"""What a spec must satisfy on this service beyond being a valid document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retort.errors import DataError, Problem, SpecError
from retort.intake import catalogue
from retort.spec import JobSpec


def admit(spec: JobSpec, data_dirs: Sequence[Path]) -> None:
    """Check that the data lies where the operator allows, or is known; whether it is there, only the worker can see.

    Raises:
        SpecError: it does not, or is not.

    """
    data = spec.data
    problem = _misplaced(data.path, data_dirs) if data.path is not None else _unknown(str(data.dataset))
    if problem is not None:
        raise SpecError([problem])


def _unknown(name: str) -> Problem | None:
    try:
        catalogue.find(name)
    except DataError as error:
        return Problem("data.dataset", error.message, error.hint)
    return None


def _misplaced(path: str, data_dirs: Sequence[Path]) -> Problem | None:
    if not path.isprintable():
        return Problem("data.path", "holds characters that no path should", "use printable characters")
    given, allowed = Path(path), [folder.expanduser() for folder in data_dirs]
    # A worker looks for a relative path in each of the folders.
    candidates = [given] if given.is_absolute() else [folder / given for folder in allowed]
    try:
        places = [candidate.resolve() for candidate in candidates]
    except (OSError, RuntimeError) as error:  # a loop of links; too long a name
        return Problem("data.path", f"cannot be followed: {error}")
    if any(place.is_relative_to(folder.resolve()) for place in places for folder in allowed):
        return None
    folders = ", ".join(str(folder) for folder in data_dirs) or "none"
    return Problem("data.path", f"{path!r} lies outside the folders that the operator allows", f"allowed: {folders}")
