"""What a spec must satisfy on this service beyond being a valid document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retort.errors import Problem, SpecError
from retort.spec import JobSpec


def admit(spec: JobSpec, data_dirs: Sequence[Path]) -> None:
    """Check that the data lies where the operator allows; whether it is there, only the worker can see.

    Raises:
        SpecError: it does not.

    """
    problem = _misplaced(spec.data.path, data_dirs)
    if problem is not None:
        raise SpecError([problem])


def _misplaced(path: str, data_dirs: Sequence[Path]) -> Problem | None:
    if not path.isprintable():
        return Problem("data.path", "holds characters that no path should", "use printable characters")
    if not Path(path).is_absolute():
        hint = "write it from the root; the service's working directory means nothing to you"
        return Problem("data.path", f"{path!r} is not an absolute path", hint)
    try:
        where = Path(path).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links; too long a name
        return Problem("data.path", f"cannot be followed: {error}")
    if any(where.is_relative_to(folder.expanduser().resolve()) for folder in data_dirs):
        return None
    allowed = ", ".join(str(folder) for folder in data_dirs) or "nowhere"
    return Problem("data.path", f"{path!r} lies outside the folders that the operator allows", f"allowed: {allowed}")
