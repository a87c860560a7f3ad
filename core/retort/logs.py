"""Log lines of the API and of workers, for people or as JSON."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from retort.errors import printable
from retort.redaction import redact

_CHATTY = ("alembic", "celery.worker.strategy", "celery.app.trace", "httpx2", "httpx")
"""Libraries that tell of every look at a table, message and request."""


def configure(*, as_json: bool) -> None:
    """Log everything, libraries included, to standard error in one format."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without the values of variables, which may hold what a user sent, or a password.
    as_records = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    as_text = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    last: list[Processor] = (
        [as_records, structlog.processors.JSONRenderer(), _without_secrets]  # JSON escapes by itself
        if as_json
        else [structlog.processors.format_exc_info, escape, as_text, _without_secrets]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, *last])
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    sys.excepthook = _tell_end
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _without_secrets(_logger: WrappedLogger, _method: str, line: Any) -> str:
    """Hide the passwords of addresses in a rendered line."""
    return redact(line)


def _tell_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback that ends the process, without the passwords of addresses."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Spell out control characters: names and addresses are chosen by strangers."""
    return {name: _escaped(value) for name, value in event.items()}


def _escaped(value: object) -> object:
    if isinstance(value, str):
        return printable(value, keep="\n\t")
    return value if isinstance(value, int | float | None) else printable(str(value), keep="\n\t")


WINDOW_S = 60.0


@dataclass(slots=True)
class _Window:
    begun: float
    passed: int = 0
    left_out: int = 0


class LineLimit:
    """Limit of the lines of one kind in a minute.

    It is for what a client may bring about again and again. Kinds are few, such as status codes.
    """

    def __init__(self, most: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._windows: dict[Hashable, _Window] = {}

    def passed(self, kind: Hashable) -> int | None:
        """Return how many lines of this *kind* were left out before.

        None where this one is left out too.
        """
        now = self._monotonic()
        window = self._windows.setdefault(kind, _Window(now))
        if now - window.begun >= WINDOW_S:
            window.begun, window.passed = now, 0
        if window.passed >= self._most:
            window.left_out += 1
            return None
        left_out, window.left_out = window.left_out, 0
        window.passed += 1
        return left_out
