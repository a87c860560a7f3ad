"""Say why a run failed, in the words of ``retort.events.Failure``."""

from __future__ import annotations

import errno
import traceback

from retort.errors import RetortError
from retort.events import Failure

_EXCERPT_LINES = 30
_LINE_CHARACTERS = 400


def explain(error: BaseException) -> Failure:
    """Return the failure that people read; a mistake of ours brings the end of its traceback along."""
    if isinstance(error, RetortError):
        return Failure(code=error.code, message=error.message, hint=error.hint, retryable=error.retryable)
    excerpt = _excerpt(error)
    if _is_out_of_memory(error):
        return Failure(
            code="out_of_memory",
            message="the device or the machine ran out of memory",
            hint="lower training.batch or training.imgsz, or choose smaller networks",
            log_excerpt=excerpt,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(
            code="disk_full",
            message="the disk of the working folder is full",
            hint="free space on the worker",
            retryable=True,
            log_excerpt=excerpt,
        )
    return Failure(
        code="internal",
        message=printable(f"the run failed with {type(error).__name__}: {error}")[:_LINE_CHARACTERS],
        hint="this is a mistake in Retort, or something that it did not foresee; the log has the details",
        log_excerpt=excerpt,
    )


def printable(text: str) -> str:
    """Escape control characters: what a run shows may come from strangers' files."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _is_out_of_memory(error: BaseException) -> bool:
    """Know torch's own error by its name: this module does not import torch."""
    names = {cls.__name__ for cls in type(error).__mro__}
    told = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or "OutOfMemoryError" in names
        or (isinstance(error, RuntimeError) and ("can't allocate memory" in told or "out of memory" in told))
    )


def _excerpt(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).splitlines()[-_EXCERPT_LINES:]
    return "\n".join(printable(line)[:_LINE_CHARACTERS] for line in lines)
