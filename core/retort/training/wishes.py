"""What a training may be asked for while it runs, and how it obeys: all ranks at the same batch."""

from __future__ import annotations

from typing import Any

from retort.errors import Stopped
from retort.training import parallel

_GO_ON, _FINISH, _STOP = range(3)
"""Ranks agree on the highest."""


class Finished(Exception):
    """The training was asked to end early, and has a network to keep."""


def obey(trainer: Any) -> None:
    """Say that *trainer* got on by a batch, and end it where that is asked for.

    Raises:
        Stopped: it is to stop, and another attempt may go on.
        Finished: it is over; the epoch under way does not count.

    """
    trainer.watcher.alive("step")
    asked = parallel.highest(_asked(trainer.watcher))
    if asked == _STOP:
        raise _stopped(trainer)
    if asked == _FINISH and trainer.best_epoch:
        trainer.epoch -= 1
        raise Finished


def poll(trainer: Any) -> None:
    """Say that *trainer* gets on, where one rank may be alone: only a stop is obeyed there.

    Raises:
        Stopped: it is to stop.

    """
    trainer.watcher.alive("step")
    if trainer.watcher.stop_requested():
        raise _stopped(trainer)


def _asked(watcher: Any) -> int:
    if watcher.stop_requested():
        return _STOP
    return _FINISH if watcher.finish_requested() else _GO_ON


def _stopped(trainer: Any) -> Stopped:
    return Stopped(f"stopped in epoch {trainer.epoch + 1} of {trainer.epochs}")
