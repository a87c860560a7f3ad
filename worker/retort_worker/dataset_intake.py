"""Check uploaded datasets, each in a confined process."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog
from pydantic import ValidationError
from retort.confinement import Policy, confined
from retort.data.dataset_intake import CONTENT, OUTCOME, PREVIEWS
from retort.data.dataset_summary import DatasetSummary
from retort.db import datasets, uploads
from retort.db.datasets import DatasetClaim, DatasetFile
from retort.db.session import database_now
from retort.storage import BytesMissing

from retort_worker import leases
from retort_worker.context import WorkerContext
from retort_worker.leases import ClaimLost
from retort_worker.process import worker_environment
from retort_worker.rounds import Rounds

_log = structlog.get_logger()
_FOLDER = "datasets"
_COMMAND = (sys.executable, "-m", "retort.data.dataset_intake")
_LOG = "log"
_TICK_S = 0.2
_LOG_BYTES = 2000


class DatasetIntake(Rounds):
    """Thread that looks through the datasets which wait for it."""

    def __init__(self, context: WorkerContext, *, look_s: float) -> None:
        super().__init__("dataset intake", self.take, rest_s=look_s, over=lambda: context.draining)
        self._context = context
        self._settings = context.settings

    def take(self) -> bool:
        """Look through the dataset that has waited longest; False where none waits."""
        with self._context.database.begin() as session:
            claimed = datasets.claim(
                session, worker=self._context.worker, now=database_now(session), lease_s=self._settings.lease_s
            )
        if claimed is None:
            return False
        log = _log.bind(dataset=claimed.id, name=claimed.name, attempt=claimed.attempt)
        folder = self._context.folder / _FOLDER / claimed.id
        shutil.rmtree(folder, ignore_errors=True)  # an earlier attempt's
        try:
            with leases.held(claimed.id, self._settings, partial(self._renew, claimed)) as lost:
                self._look_through(claimed, folder, lost)
        except ClaimLost:
            log.warning("dataset's claim lost, or given back")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _look_through(self, claimed: DatasetClaim, folder: Path, lost: threading.Event) -> None:
        folder.mkdir(parents=True)
        archive = folder / "archive"
        try:
            self._fetch(claimed, archive)
            summary = self._in_process(claimed, archive, folder, lost)
        except BytesMissing as error:
            summary = DatasetSummary.refused(error.code, error.message, "push it again")
        if summary.ok:
            self._publish(claimed, summary, folder)
            return
        with self._context.database.begin() as session:
            datasets.refuse(session, claimed, summary.model_dump(mode="json"), now=database_now(session))
        _log.info("dataset refused", dataset=claimed.id, findings=[one.message for one in summary.findings])

    def _fetch(self, claimed: DatasetClaim, archive: Path) -> None:
        """Write the parts of the upload one after the other, and check the whole."""
        with self._context.database.read() as session:
            keys = uploads.keys(session, claimed.upload_id)
        digest = hashlib.sha256()
        with archive.open("wb") as file:
            for key in keys:
                for piece in self._context.store.read(key):
                    digest.update(piece)
                    file.write(piece)
        if digest.hexdigest() != claimed.sha256:
            raise BytesMissing("the bytes that are stored are not those that were sent")

    def _in_process(self, claimed: DatasetClaim, archive: Path, folder: Path, lost: threading.Event) -> DatasetSummary:
        process, scratch = self._start(archive, folder)
        deadline = time.monotonic() + self._settings.max_intake_s
        try:
            while process.poll() is None and not self._over(lost) and time.monotonic() < deadline:
                time.sleep(_TICK_S)
        finally:
            ended = process.poll()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
        if ended is None and self._over(lost):
            self._give_back(claimed)
            raise ClaimLost
        if ended is None:
            hint = "push a smaller dataset, or let the operator raise RETORT_MAX_INTAKE_S"
            return DatasetSummary.refused("timeout", f"it took longer than {self._settings.max_intake_s:g} s", hint)
        return self._read(folder / "out" / OUTCOME, ended, folder / _LOG)

    def _start(self, archive: Path, folder: Path) -> tuple[subprocess.Popen[bytes], Path | None]:
        """Start the process that opens the strangers' files, confined to their folder."""
        settings = self._settings
        limits = ("--most-bytes", str(settings.max_dataset_bytes), "--most-files", str(settings.max_dataset_files))
        environment, scratch = worker_environment(folder)
        policy = Policy(
            write=(str(folder), *([str(scratch)] if scratch else [])), tmp=environment["TMPDIR"],
            file_bytes=settings.max_dataset_bytes,
        )  # fmt: skip
        with (folder / _LOG).open("wb") as log:
            process = subprocess.Popen(
                confined([*_COMMAND, str(archive), str(folder / "out"), *limits], policy), cwd=folder,
                env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return process, scratch

    def _over(self, lost: threading.Event) -> bool:
        return lost.is_set() or self._context.draining

    def _give_back(self, claimed: DatasetClaim) -> None:
        with self._context.database.begin() as session:
            datasets.give_back(session, claimed)

    @staticmethod
    def _read(outcome: Path, code: int, told: Path) -> DatasetSummary:
        """Read what the process has found out.

        Raises:
            ClaimLost: it has died; the dataset is tried again when the lease is over.

        """
        try:
            return DatasetSummary.model_validate_json(outcome.read_bytes())
        except (OSError, ValidationError):
            _log.error("looking through a dataset failed", code=code, log=_tail(told))
            raise ClaimLost from None

    def _publish(self, claimed: DatasetClaim, summary: DatasetSummary, folder: Path) -> None:
        store = self._context.store
        content = store.put(folder / "out" / CONTENT)
        pictures = sorted((folder / "out" / PREVIEWS).glob("*.jpg"), key=lambda path: int(path.stem))
        stored = [store.put(picture) for picture in pictures]
        with self._context.database.begin() as session:
            done = datasets.finish(
                session,
                claimed,
                summary.model_dump(mode="json"),
                DatasetFile(content.key, content.sha256, content.size_bytes),
                [DatasetFile(one.key, one.sha256, one.size_bytes) for one in stored],
                now=database_now(session),
            )
        if not done:
            raise ClaimLost
        _log.info("dataset ready", dataset=claimed.id, sha256=content.sha256)

    def _renew(self, claimed: DatasetClaim) -> bool:
        with self._context.database.begin() as session:
            return datasets.renew(session, claimed, now=database_now(session), lease_s=self._settings.lease_s)


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
    except OSError:
        return ""
