"""A worker or an API process that is killed at a named point: ``faulty.py POINT MODULE [ARGUMENTS…]``.

What happens at the point really happens, or really does not: the function there is wrapped, and the process dies before
it or after it. In a database transaction, after it means before the commit.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

from retort.db import events, jobs, queue, transitions
from retort.states import JobState
from retort.storage import Store
from retort_api.notifier import QueueNotifier
from retort_worker import supervisor
from retort_worker.context import WorkerContext
from retort_worker.process import RunProcess
from retort_worker.recorder import Recorder


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, when: Callable[..., bool] = lambda *_, **__: True) -> None:
    """Die instead of doing it, where its arguments are such."""
    original = getattr(owner, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        if when(*given, **named):
            die()
        return original(*given, **named)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, when: Callable[[Any], bool] = bool) -> None:
    """Die when it is done, where its answer is such."""
    original = getattr(owner, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        answer = original(*given, **named)
        if when(answer):
            die()
        return answer

    setattr(owner, name, wrapped)


def say_something(_session: Any, _lease: Any, said: Any, **_: Any) -> bool:
    return bool(said)


POINTS: dict[str, Callable[[], None]] = {
    "before the job is committed": lambda: after(jobs, "submit_all"),
    "after the job is committed, before the notification": lambda: before(QueueNotifier, "notify"),
    "after the claim": lambda: after(WorkerContext, "claim"),
    "before the run starts": lambda: before(RunProcess, "start"),
    "after the run has started": lambda: after(RunProcess, "start"),
    "before something is recorded": lambda: before(events, "record", say_something),
    "after a line is recorded": lambda: after(Recorder, "_flush", lambda _: True),
    "while a state is brought into the store": lambda: before(Store, "put", lambda *_, **named: bool(named)),
    "after the state is in the store": lambda: after(Store, "put", lambda kept: kept.key.startswith("saved/")),
    "after the training, before it is published": lambda: before(supervisor, "finish_attempt"),
    "while it is published": lambda: after(transitions, "succeed"),
    "after it is published": lambda: after(supervisor, "finish_attempt", lambda state: state is JobState.SUCCEEDED),
    "while the job is handed back": lambda: after(transitions, "hand_back"),
    "while a lost job is reaped": lambda: after(queue, "reap"),
}

if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    module, sys.argv = sys.argv[2], sys.argv[2:]
    runpy.run_module(module, run_name="__main__")
