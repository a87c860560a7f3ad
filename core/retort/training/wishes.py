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
    if asked == _FINISH and trainer.whole_epochs and not trainer.at_end_of_epoch:
        _finish(trainer)


def obey_between_epochs(trainer: Any) -> None:
    """End *trainer* where it is asked to finish early: an epoch has been measured, and its state is on the disk.

    Raises:
        Finished: it is over.

    """
    asked = parallel.any_of(trainer.watcher.finish_requested())
    if asked and trainer.whole_epochs < trainer.epochs:
        _finish(trainer)


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


def _finish(trainer: Any) -> None:
    trainer.epoch = trainer.whole_epochs - 1
    raise Finished


def _stopped(trainer: Any) -> Stopped:
    return Stopped(f"stopped in epoch {trainer.epoch + 1} of {trainer.epochs}")
