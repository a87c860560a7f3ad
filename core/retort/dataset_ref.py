"""Parse references to registered datasets: name and digest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from retort.errors import UserError
from retort.model_ref import FEWEST_DIGITS, SHA256, Known

PREFIX = "dataset:"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
"""Of a registered dataset, and of a known one."""
PATTERN = rf"{PREFIX}{NAME}@sha256:{SHA256}"
FORM = "dataset:NAME, or NAME@sha256:DIGEST with all 64 hexadecimal digits or the first 8 or more, in lower case"
WRITTEN = rf"{PREFIX}{NAME}|({PREFIX})?{NAME}@(sha256:)?[0-9a-f]{{{FEWEST_DIGITS},64}}"
"""As people write them: the newest of a name, or digits of a digest."""
_WHOLE = re.compile(rf"{PREFIX}({NAME})@sha256:({SHA256})")
_WRITTEN = re.compile(rf"(?:{PREFIX})?({NAME})@(?:sha256:)?([0-9a-f]{{{FEWEST_DIGITS},64}})")
_NEWEST = re.compile(rf"{PREFIX}({NAME})")
_LISTED = 5


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """Reference to one version of a registered dataset."""

    name: str
    sha256: str
    """Of the file that is kept of it, in hex."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}@sha256:{self.sha256}"


def parse(text: str) -> DatasetRef | None:
    """Parse a dataset reference; None when *text* is not a whole one."""
    found = _WHOLE.fullmatch(text)
    return None if found is None else DatasetRef(*found.groups())


def complete(text: str, known: Known) -> DatasetRef | None:
    """Return the one registered dataset that *text* means.

    It is named by digits of its digest, or is the newest of its name. None when *text* is no reference; a plain name
    is a known data set's.

    Raises:
        UserError: it means none, or several; the hint lists those that there are.

    """
    if (newest := _NEWEST.fullmatch(text)) is not None:
        digests = known(newest[1])
        if not digests:
            raise _unknown(f"there is no dataset {newest[1]!r} that is ready", digests)
        return DatasetRef(newest[1], digests[0])
    found = _WRITTEN.fullmatch(text)
    if found is None:
        return None
    name, digits = found.groups()
    digests = known(name)
    meant = [digest for digest in digests if digest.startswith(digits)]
    if len(meant) > 1:
        raise _unknown(f"{len(meant)} datasets {name!r} have digests that begin with {digits}", meant)
    if not meant:
        raise _unknown(f"there is no dataset {name!r} with the digest sha256:{digits}", digests)
    return DatasetRef(name, meant[0])


def _unknown(message: str, digests: Sequence[str]) -> UserError:
    listed = ", ".join(f"sha256:{digest}" for digest in digests[:_LISTED])
    hint = (
        f"ready by that name, newest first: {listed}" if digests else "bring it: retort datasets push FOLDER --name …"
    )
    return UserError(message, code="dataset_not_found", hint=hint)
