"""Try the extras of a job: bounded in time, caught, with an outcome each."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from retort.errors import Stopped
from retort.files import atomic_write
from retort.pipeline import results
from retort.pipeline.context import Context
from retort.pipeline.failures import explain
from retort.spec.outcome import ExtraOutcome

Made = TypeVar("Made")
Other = TypeVar("Other")

LEAST_LIMIT_S = 1800.0
"""An extra may take half an hour, or as long as the student's training where that was longer."""
MOST_TRIES = 2
"""So many attempts may end in one extra; the next does without it."""
_INSIST_S = 5.0
"""A time limit that something has swallowed strikes again so soon."""
_HINT = "the run's log has the traceback"


class _TimeUp(BaseException):
    """The extra has taken too long; no ``except Exception`` of a library may swallow it."""


@dataclass(slots=True)
class Extras:
    """Tries the extras of one stage, and collects what became of each."""

    context: Context
    limit_s: float | None = None
    """For each of them; None sets no limit."""
    counts: bool = True
    """Whether attempts that end in an extra are counted; not where it holds others that are."""
    outcomes: list[ExtraOutcome] = field(default_factory=list)

    def around(self) -> Extras:
        """Return what tries a part that holds extras, without a limit for the whole."""
        return Extras(self.context, counts=False, outcomes=self.outcomes)

    def __call__(self, name: str, make: Callable[[], Made], default: Other, *, listed: bool = True) -> Made | Other:
        """Return what *make* returns, or *default* where it fails.

        It has failed, too, where it takes too long. What is not *listed* is told only where it fails.

        Raises:
            Stopped: the run was asked to stop.
            Exception: what a later attempt may not meet, unless such a thing has ended one in this stage already.

        """
        ended = _EndedAttempts(self.context.workdir, name) if self.counts else None
        earlier = 0 if ended is None else ended.number()
        if earlier >= MOST_TRIES:
            reason = f"{earlier} attempts have ended in it"
            self._keep(ExtraOutcome(name=name, status="skipped", code="crashed", reason=reason, hint=_HINT))
            return default
        if ended is not None:
            ended.note(earlier + 1)
        made, outcome = self._tried(name, make, default, ended)
        if ended is not None:
            ended.forget()
        if listed or outcome.status != "done":
            self._keep(outcome)
        return made

    def _tried(
        self, name: str, make: Callable[[], Made], default: Other, ended: _EndedAttempts | None
    ) -> tuple[Made | Other, ExtraOutcome]:
        began, waited = time.monotonic(), _EndedAttempts(self.context.workdir, f"{self.context.stage} waited")
        try:
            with bounded(self.limit_s):
                made = make()
        except _TimeUp:
            reason = f"it took longer than {self.limit_s:.0f} s"
            return default, ExtraOutcome(name=name, status="timed_out", code="timeout", reason=reason, hint=_HINT)
        except Exception as error:
            failure = None if isinstance(error, Stopped) else explain(error, self.context.inputs.device, what=None)
            again = failure is None or (failure.retryable and not waited.number() and waited.note(1))
            if failure is not None and not again:
                traceback.print_exception(error)
                told = {"code": failure.code, "reason": failure.message, "hint": failure.hint or _HINT}
                return default, ExtraOutcome(name=name, status="failed", **told, duration_s=_since(began))
            if ended is not None:
                ended.forget()
            raise
        return made, ExtraOutcome(name=name, status="done", duration_s=_since(began))

    def _keep(self, outcome: ExtraOutcome) -> None:
        self.outcomes.append(outcome)
        if outcome.status != "done":
            self.context.journal.log(
                f"the job goes on without an extra: {outcome.sentence}", "warning", hint=outcome.hint, code=outcome.code
            )


def for_leaves(context: Context) -> Extras:
    """Return the extras of a stage, each within its time limit."""
    return Extras(context, limit_s=max(LEAST_LIMIT_S, results.duration(context.workdir, "distill")))


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


@contextlib.contextmanager
def bounded(limit_s: float | None) -> Iterator[None]:
    """End the block after *limit_s* seconds, without the time of blocks within it.

    A library that never returns to Python is ended by the supervisor, and counted by the next attempt.
    """
    if limit_s is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def strike(*_: object) -> None:
        raise _TimeUp

    around = signal.setitimer(signal.ITIMER_REAL, 0)  # the limit of the block around this one
    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, limit_s, _INSIST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *around)


class _EndedAttempts:
    """Number of the attempts that have begun an extra and never came out of it."""

    def __init__(self, workdir: Path, name: str) -> None:
        self._path = workdir / "work" / "extras" / re.sub(r"[^\w.-]+", "-", name)

    def number(self) -> int:
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return 0

    def note(self, number: int) -> bool:
        """Write the number down, where that can be done."""
        try:
            atomic_write(self._path, str(number).encode())
        except OSError:
            return False
        return True

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
