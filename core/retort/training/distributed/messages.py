"""Exchange messages with ranks: JSON lines, and stop files."""

from __future__ import annotations

import json
import os
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retort import errors
from retort.errors import RetortError, Stopped
from retort.foreign import ForeignError
from retort.protocol import workdir
from retort.protocol.workdir import PULSE, Heartbeat
from retort.spec.hardware import Optimisation
from retort.training.config import RuleFinding, TrainCallback, TrainResult

_EXCERPT = 4000
"""Characters of a traceback that are told."""


class RankCallback(TrainCallback):
    """Callbacks of a rank, which forward the first rank's messages."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder = folder
        self._rank = rank
        self._pulse = Heartbeat(folder)

    def metric(self, step: int, values: dict[str, float | None]) -> None:
        """Pass on the values of one epoch."""
        self._first("metric", step=step, values=values)

    def trained(self, num_images: int, num_batches: int, seconds: float) -> None:
        """Pass on how fast an epoch was."""
        self._first("trained", num_images=num_images, num_batches=num_batches, seconds=seconds)

    def checkpoint(self, epoch: int, path: Path, metrics: dict[str, float | None]) -> None:
        """Pass on a published checkpoint."""
        self._first("checkpoint", epoch=epoch, path=str(path), metrics=metrics)

    def saved(self, epoch: int) -> None:
        """Pass on that a state is on the disk."""
        self._first("saved", epoch=epoch)

    def alive(self, section: str) -> None:
        """Forward the heartbeat in a separate file; ignore a full disk."""
        if self._rank == 0:
            self._pulse.beat(section)

    def progress(self, fraction: float) -> None:
        """Pass on the finished part of the training."""
        self._first("progress", fraction=fraction)

    def log(self, message: str, level: str = "info", **data: Any) -> None:
        """Pass on a message that a person may want to read."""
        self._first("log", message=message, level=level, **data)

    def health(self, finding: RuleFinding) -> None:
        """Pass on a verdict that has changed."""
        self._first("health", finding=asdict(finding))

    def heatmaps(self, epoch: int, path: Path, size: tuple[int, int]) -> None:
        """Pass on the picture of an epoch."""
        self._first("heatmaps", epoch=epoch, path=str(path), size=size)

    def optimised(self, found: tuple[Optimisation, ...]) -> None:
        """Pass on what speeds the first rank up."""
        self._first("optimised", found=[one.model_dump() for one in found])

    def stop_requested(self) -> bool:
        """Return True on the first rank when a stop is requested."""
        return self._rank == 0 and stop_file(self._folder).exists()

    def finish_requested(self) -> bool:
        """Return True on the first rank when an early finish is requested."""
        return self._rank == 0 and finish_file(self._folder).exists()

    def joined(self) -> None:
        """Report that this rank has begun, and its process."""
        self._say("joined", pid=os.getpid())

    def fitted(self, fitted: TrainResult) -> None:
        """Hand over the result of the training."""
        last = None if fitted.last is None else str(fitted.last)
        self._first("fitted", **{**fitted.__dict__, "weights": str(fitted.weights), "last": last})

    def failed(self, error: BaseException) -> None:
        """Report why this rank ends, whichever rank it is."""
        told = {name: getattr(error, name, None) for name in ("message", "hint", "code", "errno", "retryable")}
        trace = "".join(traceback.format_exception(error))[-_EXCERPT:]
        self._say("failed", type=type(error).__name__, text=str(error), trace=trace, **told)

    def _first(self, kind: str, **said: Any) -> None:
        if self._rank == 0:
            self._say(kind, **said)

    def _say(self, kind: str, **said: Any) -> None:
        line = json.dumps({"rank": self._rank, "kind": kind, "said": said}, default=str).encode() + b"\n"
        with messages_file(self._folder).open("ab", buffering=0) as file:  # one call a line, so that lines never mix
            file.write(line)


@dataclass
class Receiver:
    """Receiver of the ranks' messages, which go to the callback."""

    folder: Path
    callback: TrainCallback
    offset: int = 0
    pids: dict[int, int] = field(default_factory=dict)
    """Processes by rank, as far as they have begun."""
    fitted: TrainResult | None = None
    failures: list[BaseException] = field(default_factory=list)
    felt: tuple[str, int] | None = None
    """The newest beat that was passed on."""

    def read(self) -> None:
        """Take the beat and the whole lines that have come since."""
        self._feel()
        try:
            with messages_file(self.folder).open("rb") as file:
                file.seek(self.offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        self.offset += len(whole) + len(newline)
        for line in whole.splitlines():
            told = json.loads(line)
            self._take(told["rank"], told["kind"], told["said"])

    def ask_to_stop(self) -> None:
        """Ask the ranks to stop at the next batch."""
        stop_file(self.folder).touch()

    def ask_to_finish(self) -> None:
        """Ask the ranks to finish early and keep the best network.

        They end at the next batch.
        """
        finish_file(self.folder).touch()

    def _feel(self) -> None:
        beat = workdir.read(self.folder)
        if beat is not None and beat != self.felt:
            self.felt = beat
            self.callback.alive(beat[0])

    def _take(self, rank: int, kind: str, said: dict[str, Any]) -> None:
        if kind == "joined":
            self.pids[rank] = said["pid"]
        elif kind == "fitted":
            last = None if said["last"] is None else Path(said["last"])
            self.fitted = TrainResult(**{**said, "weights": Path(said["weights"]), "last": last})
        elif kind == "failed":
            self.failures.append(rebuilt(rank, said))
        elif kind == "checkpoint":
            self.callback.checkpoint(said["epoch"], Path(said["path"]), said["metrics"])
        elif kind == "heatmaps":
            self.callback.heatmaps(said["epoch"], Path(said["path"]), tuple(said["size"]))
        elif kind == "health":
            self.callback.health(RuleFinding(**said["finding"]))
        elif kind == "optimised":
            self.callback.optimised(tuple(Optimisation(**one) for one in said["found"]))
        else:
            getattr(self.callback, kind)(**said)


def rebuilt(rank: int, said: dict[str, Any]) -> BaseException:
    """Return the error that a rank reported, of its class where known."""
    kind = getattr(errors, said["type"], None)
    if said["message"] is not None and isinstance(kind, type) and issubclass(kind, RetortError):
        return kind(said["message"], hint=said["hint"], code=said["code"])
    if said["type"] == ForeignError.__name__:
        return ForeignError(said["message"], said["hint"], code=said["code"], retryable=said["retryable"])
    found: BaseException
    if said["errno"] is not None:
        found = OSError(said["errno"], f"rank {rank}: {said['text']}")
    elif said["type"] == "MemoryError":
        found = MemoryError(f"rank {rank}: {said['text']}")
    else:
        found = RuntimeError(f"rank {rank}: {said['type']}: {said['text']}")
    found.add_note(said["trace"])
    return found


def stopped(receiver: Receiver) -> bool:
    """Return True if a rank has said that it stopped."""
    return any(isinstance(error, Stopped) for error in receiver.failures)


def forget(folder: Path) -> None:
    """Remove messages and requests of an earlier attempt in *folder*."""
    for path in (messages_file(folder), stop_file(folder), finish_file(folder), folder / PULSE):
        path.unlink(missing_ok=True)


def messages_file(folder: Path) -> Path:
    """Return the path of the ranks' messages."""
    return folder / "ranks.jsonl"


def stop_file(folder: Path) -> Path:
    """Return the file whose existence asks the ranks to stop."""
    return folder / "ranks.stop"


def finish_file(folder: Path) -> Path:
    """Return the file whose existence asks the ranks to end early."""
    return folder / "ranks.finish"
