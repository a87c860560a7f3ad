"""Keep registered datasets on a worker: fetched by digest, bounded, shared by jobs."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import structlog
from retort import dataset_ref
from retort.data import registered_datasets
from retort.dataset_ref import DatasetRef
from retort.db import Database, datasets
from retort.errors import DataError
from retort.storage import BytesMissing, Store

_log = structlog.get_logger()


class DatasetCache:
    """Registered datasets of a worker, below its folder of datasets.

    A job holds a shared lock on what it uses, which goes with its process, however that ends. What nobody holds may be
    deleted when room is needed, the least recently used first.
    """

    def __init__(self, dataset_dir: Path, *, most_bytes: int) -> None:
        self._dataset_dir = dataset_dir
        self._folder = dataset_dir / registered_datasets.FOLDER
        self._most_bytes = most_bytes

    def hold(self, name: str, database: Database, store: Store) -> IO[bytes] | None:
        """Fetch the dataset *name* where needed; return a lock that keeps it.

        The lock is held until it is closed. None where *name* is no registered dataset.

        Raises:
            DataError: it is not registered, or the store has lost its bytes.
            StoreUnavailable, DatabaseUnavailable: try again later.

        """
        reference = dataset_ref.parse(name)
        if reference is None:
            return None
        key, size_bytes = _registered(reference, database)
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = self._lock(reference.sha256)
        try:
            # A shared lock cannot be made exclusive without a gap: look again under each.
            while True:
                fcntl.flock(lock, fcntl.LOCK_SH)
                if registered_datasets.is_fetched(reference.sha256, self._dataset_dir):
                    os.utime(lock.name)
                    return lock
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not registered_datasets.is_fetched(reference.sha256, self._dataset_dir):
                    self.make_room(size_bytes)
                    self._fetch(reference, key, store)
        except BaseException:
            lock.close()
            raise

    def _lock(self, sha256: str) -> IO[bytes]:
        return (self._folder / f"{sha256}.lock").open("ab")

    def _fetch(self, reference: DatasetRef, key: str, store: Store) -> None:
        with TemporaryDirectory(prefix=".fetch-", dir=self._folder) as folder:
            archive = Path(folder) / "dataset.tar"
            try:
                store.fetch(key, archive)
            except BytesMissing as error:
                hint = f"bring it again: retort datasets push FOLDER --name {reference.name}"
                raise DataError(f"the bytes of {reference} are lost: {error.message}", hint=hint) from error
            registered_datasets.lay_out(archive, reference.sha256, self._dataset_dir)

    def make_room(self, wanted_bytes: int) -> None:
        """Delete unused datasets until *wanted_bytes* fit under the limit.

        The least recently used go first; those that a job holds stay.
        """
        kept = sorted(self._kept(), key=lambda one: one[0])
        used = sum(size for _, size, _ in kept)
        for _, size, sha256 in kept:
            if used + wanted_bytes <= self._most_bytes:
                return
            if self._drop(sha256):
                _log.info("dataset deleted from the cache", sha256=sha256, bytes=size)
                used -= size

    def _kept(self) -> list[tuple[float, int, str]]:
        """Return when each dataset was last used, its size and digest."""
        found = []
        for path in self._folder.glob("*.lock"):
            home = registered_datasets.folder_of(path.stem, self._dataset_dir)
            with suppress(OSError):
                if home.is_dir():
                    found.append((path.stat().st_mtime, _size(home), path.stem))
        return found

    def _drop(self, sha256: str) -> bool:
        with self._lock(sha256) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            home = registered_datasets.folder_of(sha256, self._dataset_dir)
            if not home.is_dir():
                return False
            gone = home.with_name(f".{sha256}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            home.rename(gone)  # it is whole or not there, also for who looks without a lock
            shutil.rmtree(gone, ignore_errors=True)
        return True


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _registered(reference: DatasetRef, database: Database) -> tuple[str, int]:
    with database.read() as session:
        row = datasets.find(session, reference, None)
    if row is None or row.key is None or row.size_bytes is None:
        hint = "it was deleted: push it again, or name another version; retort datasets list"
        raise DataError(f"there is no dataset {reference}", hint=hint)
    return row.key, row.size_bytes
