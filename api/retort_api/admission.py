"""What a spec must satisfy on this service beyond being a valid document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from retort.errors import Problem, SpecError
from retort.spec import JobSpec


def admit(spec: JobSpec, data_dirs: Sequence[Path]) -> None:
    """Check that the data lies where the operator allows; whether it is there, only the worker can see.

    Raises:
        SpecError: it does not.

    """
    problems = [problem for place, path in _folders(spec) if (problem := _misplaced(place, path, data_dirs))]
    if problems:
        raise SpecError(problems)


def _folders(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """Yield what the spec calls folders of images, with where it does."""
    yield "data.path", spec.data.path
    if spec.data.unlabelled is not None:
        yield "data.unlabelled.path", spec.data.unlabelled.path
    if spec.pseudo_labels is not None:
        yield "pseudo_labels.path", spec.pseudo_labels.path


def _misplaced(place: str, path: str, data_dirs: Sequence[Path]) -> Problem | None:
    if not path.isprintable():
        return Problem(place, "holds characters that no path should", "use printable characters")
    given, allowed = Path(path), [folder.expanduser() for folder in data_dirs]
    # A worker looks for a relative path in each of the folders.
    candidates = [given] if given.is_absolute() else [folder / given for folder in allowed]
    try:
        places = [candidate.resolve() for candidate in candidates]
    except (OSError, RuntimeError) as error:  # a loop of links; too long a name
        return Problem(place, f"cannot be followed: {error}")
    if any(found.is_relative_to(folder.resolve()) for found in places for folder in allowed):
        return None
    folders = ", ".join(str(folder) for folder in data_dirs) or "none"
    return Problem(place, f"{path!r} lies outside the folders that the operator allows", f"allowed: {folders}")
