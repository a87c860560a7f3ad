"""Compare the images that upstream's scan kept with those that it was given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from retort.errors import DataError
from retort.images import SUFFIXES

_NAMED = 5


def check_kept(given: Iterable[str], kept: Sequence[str]) -> None:
    """Insist that upstream's scan has dropped no image.

    Intake has counted them all as used.

    Raises:
        DataError: it has; the message names them.

    """
    dropped = sorted(set(given) - set(kept))
    if dropped:
        named = ", ".join(Path(path).name for path in dropped[:_NAMED])
        more = f" and {len(dropped) - _NAMED} more" if len(dropped) > _NAMED else ""
        raise DataError(
            f"Ultralytics leaves out {len(dropped)} images that were counted as used: {named}{more}",
            hint="the run's log says why, in the lines of its scan; retort data check names what is wrong in the data",
        )


def images_in(folder: Path) -> list[str]:
    """List the images in a folder as upstream does."""
    return [str(path) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
