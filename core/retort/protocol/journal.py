"""Write and read the journal: append-only, numbered JSON lines."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import ValidationError

from retort.constants import Role
from retort.errors import TransientError
from retort.protocol.events import (
    EVENT,
    AnyEvent,
    ArtifactEvent,
    AwaitingReviewEvent,
    BaseEvent,
    CheckpointEvent,
    FailedEvent,
    FinishedEvent,
    HealthEvent,
    LogEvent,
    MetricEvent,
    ProgressEvent,
    RunFailure,
    SavedEvent,
    StageEvent,
    StoppedEvent,
)
from retort.spec.result import Result

Level = Literal["debug", "info", "warning", "error"]
Values = Mapping[str, float | None]


class Journal:
    """Journal writer that appends whole lines.

    Each line is one system call, so that a reader never sees an event before it is complete. A journal that exists is
    continued: a torn last line, left by a crash in mid-write, is cut off first.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        whole = path.read_bytes().rpartition(b"\n")
        self._size = len(whole[0]) + len(whole[1])
        os.ftruncate(self._file, self._size)
        self._n = whole[0].count(b"\n") + len(whole[1])

    def stage(self, name: str) -> None:
        """Record that a stage began."""
        self._append(StageEvent, stage=name)

    def progress(self, fraction: float, eta_s: float | None = None) -> None:
        """Record the progress of the whole run, as a *fraction*.

        *fraction* is from 0 to 1; *eta_s* is the estimated time left in seconds.
        """
        self._append(ProgressEvent, progress=min(1.0, max(0.0, fraction)), eta_s=eta_s)

    def metric(self, role: Role, step: int, values: Values) -> None:
        """Record the metric values of one step; non-finite values become null.

        They are on the disk when this returns: the state of their epoch, from which a resume would continue, is later.
        """
        self._append(MetricEvent, role=role, step=step, values=_finite(values))
        os.fsync(self._file)

    def checkpoint(self, role: Role, epoch: int, path: Path | str, metrics: Values) -> None:
        """Record a complete checkpoint at *path*, relative to the workdir."""
        self._append(CheckpointEvent, role=role, epoch=epoch, path=str(path), metrics=_finite(metrics))

    def artifact(
        self,
        name: str,
        role: Role,
        path: Path | str,
        media_type: str = "application/octet-stream",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a complete file to publish at *path*, relative to the workdir."""
        self._append(
            ArtifactEvent, name=name, role=role, path=str(path), media_type=media_type, metadata=dict(metadata or {})
        )

    def saved(self, stage: str, epoch: int, files: Sequence[str], *, last: Sequence[str] = ()) -> None:
        """Record saved *files*, relative to the workdir, to resume from.

        Those of *last* are kept once the job has succeeded.
        """
        self._append(SavedEvent, stage=stage, epoch=epoch, files=tuple(files), last=tuple(last))

    def log(self, message: str, level: Level = "info", **data: Any) -> None:
        """Record a message that a person may want to know."""
        self._append(LogEvent, message=message, level=level, data=data)

    def health(self, *, values: Values, **finding: Any) -> None:
        """Record that the verdict of a health rule has changed.

        *finding* has the other fields of a HealthEvent.
        """
        self._append(HealthEvent, **finding, values=_finite(values))

    def finished(self, result: Result) -> None:
        """Record that the run is complete."""
        self._append(FinishedEvent, result=result)

    def failed(self, failure: RunFailure) -> None:
        """Record that the run failed."""
        self._append(FailedEvent, failure=failure)

    def stopped(self) -> None:
        """Record that the run stopped on request."""
        self._append(StoppedEvent)

    def awaiting_review(self, num_images: int) -> None:
        """Record that *num_images* images wait for review."""
        self._append(AwaitingReviewEvent, num_images=num_images)

    def close(self) -> None:
        """Close the journal file; nothing can be written after."""
        os.close(self._file)

    def _append(self, kind: type[BaseEvent], **fields: Any) -> None:
        with self._lock:
            event = kind(n=self._n + 1, at=self._clock(), **fields)
            line = event.model_dump_json().encode() + b"\n"
            if os.write(self._file, line) != len(line):
                # Half a line would swallow the next one; a disk that is full often has room for a part.
                os.ftruncate(self._file, self._size)
                raise TransientError("the journal could not be written: the disk is full", code="disk_full")
            self._n += 1
            self._size += len(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path, offset: int = 0) -> tuple[list[AnyEvent], int]:
    """Return the journal's events after *offset*, and the next offset.

    Offsets are in bytes; the next one is after the last complete line. A journal that does not exist yet has no events.

    Raises:
        TransientError: a complete line is not an event, or the journal is shorter than *offset*.

    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                raise TransientError(f"{path.name} is shorter than what was read of it", code="bad_journal")
            file.seek(offset)
            whole, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return [], offset
    try:
        events = [EVENT.validate_json(line) for line in whole.split(b"\n")] if newline else []
    except ValidationError as error:
        raise TransientError(f"{path.name} holds a line that is not an event", code="bad_journal") from error
    return events, offset + len(whole) + len(newline)


def _finite(values: Values) -> dict[str, float | None]:
    return {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}
