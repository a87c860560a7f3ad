"""Run one tracker as a process that acknowledges each event."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, BinaryIO, NoReturn, Protocol

from retort.confinement import hide_environment
from retort.protocol.events import EVENT, AnyEvent, ArtifactEvent, FailedEvent, FinishedEvent, MetricEvent, StoppedEvent
from retort.tracking.session import TrackerConfig


class Tracker(Protocol):
    """Interface of a tracker."""

    def metric(self, event: MetricEvent) -> None: ...  # noqa: D102 - as their names say
    def artifact(self, event: ArtifactEvent) -> None: ...  # noqa: D102
    def end(self, event: AnyEvent) -> None: ...  # noqa: D102


def begin(config: TrackerConfig) -> Tracker:
    """Open the configured tracker; only its library is imported."""
    if config.kind == "wandb":
        from retort.tracking.wandb import WeightsAndBiases

        return WeightsAndBiases(config)
    if config.kind == "mlflow":
        from retort.tracking.mlflow import Mlflow

        return Mlflow(config)
    from retort.tracking.tensorboard import TensorBoard

    return TensorBoard(config)


def dispatch(tracker: Tracker, event: AnyEvent) -> None:
    """Send one event to *tracker*."""
    match event:
        case MetricEvent():
            tracker.metric(event)
        case ArtifactEvent():
            tracker.artifact(event)
        case FinishedEvent() | FailedEvent() | StoppedEvent():
            tracker.end(event)
        case _:
            pass


def main() -> int:
    """Serve tracker events until standard input ends; return the exit code."""
    hide_environment()  # it holds the trackers' keys
    # Libraries print as they please: the channel to the supervising side is kept from them.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    tracker: Tracker | None = None
    try:
        for line in sys.stdin.buffer:
            if tracker is None:
                tracker = begin(TrackerConfig.model_validate_json(line))
            else:
                dispatch(tracker, EVENT.validate_json(line))
            _answer(answers, None)
    except Exception as error:  # noqa: BLE001 - whatever it is, the supervising side is told
        import traceback

        traceback.print_exc()
        _answer(answers, _reason(error))
        return 1
    return 0


def _answer(answers: BinaryIO | Any, error: str | None) -> None:
    answers.write(json.dumps({"error": error}).encode() + b"\n")


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed here"
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def leave() -> NoReturn:
    """Serve tracker events, then end the process at once.

    Libraries would wait for threads of theirs, and all that counts has been answered.
    """
    code = 1
    try:
        code = main()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    leave()
