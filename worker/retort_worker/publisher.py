"""The publisher: brings the files that a run names into the store, while it runs."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from pathlib import Path

import stamina
import structlog
from retort.artifacts import Store
from retort.db.artifacts import NewArtifact
from retort.errors import RetortError, WorldError
from retort.events import AnyEvent, ArtifactEvent, CheckpointEvent, Failure

_log = structlog.get_logger()
LOG_NAME = "run.log"


@dataclass(frozen=True, slots=True)
class _Wanted:
    name: str
    path: str
    role: str
    media_type: str
    metadata: dict[str, object]
    at_once: bool
    """Announced while the job runs, not only when it ends."""


class Publisher:
    """Puts files one after the other in a thread of its own, so that a slow store never delays a renewal."""

    def __init__(self, store: Store, workdir: Path) -> None:
        self._store = store
        self._workdir = workdir.resolve()
        self._queue: queue.SimpleQueue[_Wanted | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_waiting = 0
        self._stored: dict[str, NewArtifact] = {}
        self._fresh: dict[str, NewArtifact] = {}
        self._failures: dict[str, Failure] = {}
        threading.Thread(target=self._work, name="publisher", daemon=True).start()

    def listen(self, event: AnyEvent) -> None:
        """Take up the files that *event* names; a later file of the same name replaces an earlier one."""
        if isinstance(event, CheckpointEvent):
            name = f"checkpoints/{event.role}-epoch-{event.epoch:04d}{Path(event.path).suffix}"
            metadata = {"epoch": event.epoch, "metrics": event.metrics}
            self._add(_Wanted(name, event.path, event.role, "application/octet-stream", metadata, at_once=True))
        elif isinstance(event, ArtifactEvent):
            self._add(_Wanted(event.name, event.path, event.role, event.media_type, event.metadata, at_once=False))

    def add_log(self) -> None:
        """Take up the run's output, once the run has ended."""
        if (self._workdir / LOG_NAME).exists():
            self._add(_Wanted(LOG_NAME, LOG_NAME, "job", "text/plain; charset=utf-8", {}, at_once=True))

    def _add(self, wanted: _Wanted) -> None:
        with self._lock:
            self._num_waiting += 1
        self._queue.put(wanted)

    def busy(self) -> bool:
        """Whether files are still on their way."""
        with self._lock:
            return self._num_waiting > 0

    def fresh(self) -> list[NewArtifact]:
        """Files that can be announced now, and were not marked as announced."""
        with self._lock:
            return list(self._fresh.values())

    def announced(self, artifacts: list[NewArtifact]) -> None:
        """Mark what ``fresh`` gave as recorded."""
        with self._lock:
            for artifact in artifacts:
                if self._fresh.get(artifact.name) == artifact:
                    del self._fresh[artifact.name]

    def stored(self) -> list[NewArtifact]:
        """Everything that was brought into the store, the latest of each name."""
        with self._lock:
            return list(self._stored.values())

    def failure(self) -> Failure | None:
        """Why something that the result needs could not be stored."""
        with self._lock:
            return next(iter(self._failures.values()), None)

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._queue.put(None)

    def _work(self) -> None:
        while (wanted := self._queue.get()) is not None:
            try:
                self._put(wanted)
            finally:
                with self._lock:
                    self._num_waiting -= 1

    def _put(self, wanted: _Wanted) -> None:
        try:
            artifact = self._bring(wanted)
        except Exception as error:  # noqa: BLE001 - it becomes the job's failure
            _log.exception("could not store", artifact=wanted.name)
            with self._lock:
                if not wanted.at_once:
                    self._failures[wanted.name] = _explain(wanted, error)
            return
        with self._lock:
            self._stored[wanted.name] = artifact
            self._failures.pop(wanted.name, None)
            if wanted.at_once:
                self._fresh[wanted.name] = artifact

    def _bring(self, wanted: _Wanted) -> NewArtifact:
        path = (self._workdir / wanted.path).resolve()
        if not path.is_relative_to(self._workdir) or not path.is_file():
            raise FileNotFoundError(f"{wanted.path} is not a file in the run's folder")
        for attempt in stamina.retry_context(on=WorldError, attempts=5, timeout=60.0, wait_initial=0.2):
            with attempt:
                kept = self._store.put(path)
        return NewArtifact(
            name=wanted.name,
            role=str(wanted.role),
            sha256=kept.sha256,
            size_bytes=kept.size_bytes,
            media_type=wanted.media_type,
            key=kept.key,
            metadata=dict(wanted.metadata),
        )


def _explain(wanted: _Wanted, error: Exception) -> Failure:
    retryable = isinstance(error, WorldError) or (
        isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    )
    return Failure(
        code=error.code if isinstance(error, RetortError) else "not_stored",
        message=f"{wanted.name} could not be stored: {error}",
        hint="check the artifact store's address, permissions and free space" if retryable else None,
        retryable=retryable,
    )
