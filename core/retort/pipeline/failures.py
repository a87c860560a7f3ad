"""Say why a run failed, in the words of ``retort.protocol.events.RunFailure``."""

from __future__ import annotations

import traceback

from retort.errors import RetortError, printable
from retort.foreign import LINE_CHARACTERS, translate
from retort.protocol.events import RunFailure

_EXCERPT_LINES = 30


def explain(error: BaseException, device: str = "cpu", *, what: str | None = "the run") -> RunFailure:
    """Return the failure of *error* that people read.

    What is not an error of ours brings the end of its traceback along. *device* is the run's: ``cpu``, or the number of
    a GPU; *what* has failed.
    """
    told = translate(error, device=device, what=what)
    excerpt = None if isinstance(error, RetortError) else _excerpt(error)
    return RunFailure(
        code=told.code, message=told.message, hint=told.hint, retryable=told.retryable, log_excerpt=excerpt
    )


def _excerpt(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).splitlines()[-_EXCERPT_LINES:]
    return "\n".join(printable(line)[:LINE_CHARACTERS] for line in lines)
