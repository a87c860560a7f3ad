"""The housekeeper: removes what ended jobs have left, on this machine and in the store, and frees quarantined GPUs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable

import structlog
from retort.db import catalogue, clock, recovery
from retort.states import TERMINAL

from retort_worker import folder, gpus
from retort_worker.devices import Pool
from retort_worker.workshop import Workshop

_log = structlog.get_logger()
_TIDY_S = 900.0
_LOOK_S = 60.0


class Housekeeper:
    """A thread that tidies at the start and then every quarter of an hour; several workers may do so at a time."""

    def __init__(self, workshop: Workshop, pool: Pool) -> None:
        self._workshop = workshop
        self._pool = pool
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Begin; it ends with the process."""
        self._thread.start()

    def _run(self) -> None:
        rest = threading.Event()
        while True:
            self._try(self.tidy_folders)
            self._try(self.tidy_store)
            for _ in range(int(_TIDY_S / _LOOK_S)):
                self._try(self.release_gpus)
                rest.wait(_LOOK_S)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next round must come
            _log.warning("tidying failed", work=work.__name__, error=str(error))

    def tidy_folders(self) -> None:
        """Remove the working folders of jobs that have ended, here or elsewhere."""
        folders = {path.name: path for path in self._workshop.folder.glob("job_*") if path.is_dir()}
        with self._workshop.database.read() as session:
            states = catalogue.states(session, list(folders))
        for job_id, path in folders.items():
            # Of a job that is not known here, another database may know more.
            if states.get(job_id) in TERMINAL and folder.is_free(path):
                shutil.rmtree(path, ignore_errors=True)

    def tidy_store(self) -> None:
        """Forget what jobs that ended long ago have saved, and remove the bytes that nobody can need any more."""
        database, store = self._workshop.database, self._workshop.store
        with database.begin() as session:
            recovery.forget_old(session, before=clock.now(session) - self._workshop.settings.keep_saved_s)
        saved = store.saved_jobs()
        with database.read() as session:
            over = recovery.without(session, saved)
        for job_id in over:
            store.delete_saved(job_id)

    def release_gpus(self) -> None:
        """Let runs have the quarantined GPUs that nobody uses any more."""
        for gpu in self._pool.quarantined():
            if gpus.is_unused(gpu):
                _log.info("GPU is clean again", gpu=gpu)
                self._pool.release(gpu)
