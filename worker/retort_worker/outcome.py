"""How a run ended: its last word, or what its death tells."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from retort.errors import RetortError
from retort.protocol.events import AnyEvent, AwaitingReviewEvent, FailedEvent, Failure, FinishedEvent, StoppedEvent
from retort.spec.result import Result

_EXCERPT_LINES = 20
_EXCERPT_BYTES = 16_384
_LINE_CHARACTERS = 400

_OUT_OF_MEMORY = "the machine has probably run out of memory: lower training.batch or training.imgsz, or give it more"
_SHARED_MEMORY = "shared memory has probably run out: give the worker more of /dev/shm"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result, or a failure, or neither when the run stopped because it was told to."""

    result: Result | None = None
    failure: Failure | None = None
    exit_code: int | None = None
    awaits_review: bool = False
    """It goes on once people have looked at what it has published for them."""


def judge(last: AnyEvent | None, exit_code: int, *, told_to_stop: bool, excerpt: str) -> Outcome:
    """Read a run's end from its last event and the exit code of its process.

    Whatever a run says after it was told to stop, short of a result, may come from being stopped, and is no failure.
    """
    if isinstance(last, FinishedEvent):
        return Outcome(result=last.result, exit_code=exit_code)
    if isinstance(last, AwaitingReviewEvent):
        return Outcome(exit_code=exit_code, awaits_review=True)
    if told_to_stop:
        return Outcome(exit_code=exit_code)
    if isinstance(last, FailedEvent):
        failure = last.failure
        if failure.log_excerpt is None:
            failure = failure.model_copy(update={"log_excerpt": excerpt})
        return Outcome(failure=failure, exit_code=exit_code)
    if isinstance(last, StoppedEvent):
        message = "the run was stopped from outside of Retort"
        return Outcome(failure=Failure(code="stopped", message=message, retryable=True), exit_code=exit_code)
    return Outcome(failure=_death(exit_code, excerpt), exit_code=exit_code)


def _death(exit_code: int, excerpt: str) -> Failure:
    if exit_code >= 0:
        message = f"the run ended with exit code {exit_code} and without a last word"
        return Failure(code="crashed", message=message, retryable=True, log_excerpt=excerpt)
    number = -exit_code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    code = "killed" if number == signal.SIGKILL else "crashed"
    hint = _OUT_OF_MEMORY if number == signal.SIGKILL else _SHARED_MEMORY if number == signal.SIGBUS else None
    return Failure(code=code, message=f"the run was ended by {name}", hint=hint, retryable=True, log_excerpt=excerpt)


def explain(error: BaseException) -> Failure:
    """Turn what stopped the worker's own part of an attempt into the failure that the job's owner reads."""
    if isinstance(error, RetortError):
        return Failure(code=error.code, message=error.message, hint=error.hint, retryable=error.retryable)
    if isinstance(error, OSError):
        return Failure(code="unavailable", message=f"the worker's machine failed: {error}", retryable=True)
    return Failure(
        code="internal",
        message=f"supervising the run failed with {type(error).__name__}",
        hint="this is a mistake in Retort; the worker's log has the details",
    )


def tail(log: Path, start: int) -> str:
    """Return the last lines that were written to *log* from byte *start* on, fit to be shown anywhere.

    What a run prints is not trusted: control characters are escaped and long lines cut.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - _EXCERPT_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()][-_EXCERPT_LINES:]
    return "\n".join(_printable(line[:_LINE_CHARACTERS]) for line in lines)


def _printable(line: str) -> str:
    return "".join(
        letter if letter.isprintable() or letter == "\t" else letter.encode("unicode_escape").decode()
        for letter in line
    )
