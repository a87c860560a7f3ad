"""Turn errors of a command into ours, their tracebacks into a log."""

from __future__ import annotations

import tempfile
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_log_path

from retort.errors import RetortError
from retort.foreign import ForeignError, translate, unusable_path
from retort.redaction import redact
from retort.settings import explain_settings

_MOST_BYTES = 1_000_000
"""A longer log begins anew."""


def explain(error: Exception) -> RetortError:
    """Return the error that people read; an unexpected one is logged."""
    told = explain_settings(error) or unusable_path(error) or translate(error)
    if told.code != "internal":
        return told
    log = keep(error)
    where = f"the traceback is in {log}" if log else "its traceback could not be written anywhere"
    return ForeignError(
        told.message, f"this is a mistake in Retort, or something that it did not foresee; {where}", code="internal"
    )


def keep(error: BaseException) -> Path | None:
    """Append a traceback to the log; return the log, or None."""
    text = f"{datetime.now(UTC).isoformat(timespec='seconds')}\n{redact(''.join(traceback.format_exception(error)))}\n"
    for folder in (user_log_path("retort"), Path(tempfile.gettempdir())):
        path = folder / "retort-cli.log"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            long = path.exists() and path.stat().st_size > _MOST_BYTES
            with path.open("w" if long else "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return path
    return None
