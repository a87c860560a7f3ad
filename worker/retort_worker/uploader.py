"""Upload a run's files to the store while it runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stamina
import structlog
from retort import chart_program
from retort.constants import HEATMAPS, Role
from retort.db.artifacts import NewArtifact
from retort.errors import RetortError, TransientError
from retort.protocol.events import AnyEvent, ArtifactEvent, CheckpointEvent, RunFailure, SavedEvent
from retort.protocol.workdir import LOG
from retort.review.models import PICTURES
from retort.spec.outcome import ExtraOutcome
from retort.storage import Store, Stored

_log = structlog.get_logger()
_BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class _UploadRequest:
    name: str
    path: str
    role: str
    media_type: str
    metadata: dict[str, object]
    at_once: bool
    """Announced while the job runs, not only when it ends."""
    needed: bool = True
    """Without it the job's result, or what people are to look at, is not complete."""


@dataclass(frozen=True)
class Uploaded:
    """Stored files that are not recorded yet."""

    artifacts: list[NewArtifact] = field(default_factory=list)
    saved: dict[str, Any] | None = None
    """As ``retort.db.artifacts`` takes it."""

    def __bool__(self) -> bool:
        return bool(self.artifacts) or self.saved is not None


class ArtifactUploader:
    """Uploader of files, in a background thread so that leases are renewed."""

    def __init__(self, store: Store, workdir: Path, job_id: str, attempt: int) -> None:
        self._store = store
        self._workdir = workdir.resolve()
        self._job_id = job_id
        self._attempt = attempt
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._num_waiting = 0
        self._uploaded: dict[str, NewArtifact] = {}
        self._pending: dict[str, NewArtifact] = {}
        self._recorded: dict[str, NewArtifact] = {}
        self._to_save: SavedEvent | None = None
        self._saved: dict[str, Any] | None = None
        self._newest: dict[str, Any] | None = None
        self._failures: dict[str, RunFailure] = {}
        self._lost: dict[str, RunFailure] = {}
        threading.Thread(target=self._work, name="uploader", daemon=True).start()

    def on_event(self, event: AnyEvent) -> None:
        """Upload the files of *event*; a later file replaces its namesake."""
        if isinstance(event, CheckpointEvent):
            name = f"checkpoints/{event.role}-epoch-{event.epoch:04d}{Path(event.path).suffix}"
            metadata = {"epoch": event.epoch, "metrics": event.metrics}
            self._add(_UploadRequest(name, event.path, event.role, _BINARY, metadata, at_once=True, needed=False))
        elif isinstance(event, ArtifactEvent):
            # There may be thousands of pictures: too many for the transaction in which the job moves on.
            at_once = event.name.startswith((PICTURES, HEATMAPS))
            needed = not _is_extra(event)
            self._add(
                _UploadRequest(event.name, event.path, event.role, event.media_type, event.metadata, at_once, needed)
            )
        elif isinstance(event, SavedEvent):
            with self._lock:
                self._to_save = event
            self._enqueue(self._save)

    def add_log(self) -> None:
        """Upload the run's log, once the run has ended."""
        if (self._workdir / LOG).exists():
            self._add(_UploadRequest(LOG, LOG, "job", "text/plain; charset=utf-8", {}, at_once=True, needed=False))

    def _add(self, wanted: _UploadRequest) -> None:
        self._enqueue(lambda: self._put(wanted))

    def _enqueue(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._num_waiting += 1
        self._queue.put(work)

    def is_busy(self) -> bool:
        """Return True if uploads have not ended yet."""
        with self._lock:
            return self._num_waiting > 0

    def wait(self, timeout_s: float) -> None:
        """Wait until every upload has ended, at most *timeout_s* seconds."""
        with self._idle:
            self._idle.wait_for(lambda: self._num_waiting == 0, timeout_s)

    def pending(self) -> Uploaded:
        """Return the stored files that can be announced now.

        Those that were marked as recorded are left out.
        """
        with self._lock:
            return Uploaded(list(self._pending.values()), self._saved)

    def mark_recorded(self, uploaded: Uploaded) -> None:
        """Mark the files that ``pending`` returned as recorded."""
        with self._lock:
            for artifact in uploaded.artifacts:
                self._recorded[artifact.name] = artifact
                if self._pending.get(artifact.name) == artifact:
                    del self._pending[artifact.name]
            if self._saved is uploaded.saved:
                self._saved = None
        if uploaded.saved is not None:
            keys = {file["key"] for file in uploaded.saved["files"]}
            self._enqueue(lambda: self._tidy(keys))

    def keep_last(self) -> None:
        """Remove all that a job which has succeeded has saved but its last state."""
        with self._lock:
            newest = self._newest
        last = {file["key"] for file in newest["files"] if file.get("last")} if newest is not None else set()
        try:
            self._store.delete_saved(self._job_id, but=last)
        except TransientError as error:
            _log.warning("earlier states were not removed", job=self._job_id, error=error.message)

    def uploaded(self) -> list[NewArtifact]:
        """Return the stored files not announced yet, the latest of each name."""
        with self._lock:
            return [artifact for name, artifact in self._uploaded.items() if self._recorded.get(name) != artifact]

    def failure(self) -> RunFailure | None:
        """Return why a file that the result needs could not be stored."""
        with self._lock:
            return next(iter(self._failures.values()), None)

    def lost(self) -> tuple[ExtraOutcome, ...]:
        """Return the outcomes of files that could not be stored."""
        with self._lock:
            return tuple(
                ExtraOutcome(
                    name=f"storage of {name}", status="failed", code=why.code, reason=why.message, hint=why.hint
                )
                for name, why in self._lost.items()
            )

    def close(self) -> None:
        """End the thread after the upload in progress."""
        self._queue.put(None)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            finally:
                with self._idle:
                    self._num_waiting -= 1
                    self._idle.notify_all()

    def _put(self, wanted: _UploadRequest) -> None:
        try:
            kept = self._bring(self._lean(wanted))
        except Exception as error:  # noqa: BLE001 - it becomes the job's failure
            _log.exception("could not store", artifact=wanted.name)
            with self._lock:
                kept_out = self._failures if wanted.needed else self._lost
                kept_out[wanted.name] = _explain(wanted, error)
            return
        artifact = NewArtifact(
            wanted.name, str(wanted.role), kept.sha256, kept.size_bytes, wanted.media_type, kept.key,
            dict(wanted.metadata),
        )  # fmt: skip
        with self._lock:
            self._uploaded[wanted.name] = artifact
            self._failures.pop(wanted.name, None)
            self._lost.pop(wanted.name, None)
            if wanted.at_once:
                self._pending[wanted.name] = artifact

    def _lean(self, wanted: _UploadRequest) -> str:
        """Return the path of the file to store; a page leaves the charts' program to the service."""
        if wanted.name != _PAGE:
            return wanted.path
        path = (self._workdir / wanted.path).resolve()
        if not path.is_relative_to(self._workdir) or not path.is_file():
            return wanted.path  # which is refused
        served = self._workdir / f"{_PAGE}.served"
        served.write_bytes(chart_program.shared(path.read_bytes(), _PAGE_DEPTH))
        return served.name

    def _save(self) -> None:
        """Bring the latest state into the store; one that is not whole any more has been overtaken by the run."""
        with self._lock:
            event, self._to_save = self._to_save, None
        if event is None:
            return  # it was the latest when one before it was due
        files = []
        try:
            for path in event.files:
                kept = self._bring(path, saved_by=(self._job_id, self._attempt))
                about = {"path": path, "key": kept.key, "sha256": kept.sha256, "size_bytes": kept.size_bytes}
                files.append({**about, "last": True} if path in event.last else about)
        except Exception as error:  # noqa: BLE001 - the job goes on from an earlier one
            _log.warning("a state was not stored", job=self._job_id, epoch=event.epoch, error=str(error))
            return
        about_all = {"job_id": self._job_id, "attempt": self._attempt, "stage": event.stage, "epoch": event.epoch}
        with self._lock:
            self._saved = self._newest = {**about_all, "files": files}

    def _tidy(self, keys: set[str]) -> None:
        """Remove what the state on record has replaced; a later one may be in the store already.

        Only of this attempt: a worker that slept through the loss of its lease must not remove what others rely on.
        """
        with self._lock:
            keys |= {file["key"] for file in self._saved["files"]} if self._saved else set()
        try:
            self._store.delete_saved(self._job_id, self._attempt, but=keys)
        except TransientError as error:
            _log.warning("replaced states were not removed", job=self._job_id, error=error.message)

    def _bring(self, name: str, *, saved_by: tuple[str, int] | None = None) -> Stored:
        path = (self._workdir / name).resolve()
        if not path.is_relative_to(self._workdir) or not path.is_file():
            raise FileNotFoundError(f"{name} is not a file in the run's folder")
        for attempt in stamina.retry_context(on=TransientError, attempts=5, timeout=60.0, wait_initial=0.2):
            with attempt:
                kept = self._store.put(path, saved_by=saved_by)
        return kept


_PAGE = "report.html"
_PAGE_DEPTH = 4
"""Folders above an artifact's address."""
_EXTRAS = frozenset(
    {"report.html", "report.json", "manifest.json", "health.npz", "mistakes.json", "curves.json", "samples.json"}
)


def _is_extra(event: ArtifactEvent) -> bool:
    """Return True for a file that the student does not depend on: reports, exports, the control, other seeds."""
    drawn = event.name in _EXTRAS or event.name.startswith(HEATMAPS)
    return drawn or event.role == Role.CONTROL or "format" in event.metadata or "seed" in event.metadata


def _explain(wanted: _UploadRequest, error: Exception) -> RunFailure:
    retryable = isinstance(error, TransientError) or (
        isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    )
    return RunFailure(
        code=error.code if isinstance(error, RetortError) else "not_stored",
        message=f"{wanted.name} could not be stored: {error}",
        hint="check the artifact store's address, permissions and free space" if retryable else None,
        retryable=retryable,
    )
