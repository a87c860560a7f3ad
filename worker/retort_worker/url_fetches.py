"""Fetch uploads by URL, from the hosts that the operator names."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog
from retort.addresses import Network
from retort.data.public_fetch import FetchLimits, fetch_public
from retort.db import fetches
from retort.db.fetches import FetchClaim, FetchFailure
from retort.db.session import database_now
from retort.db.uploads import NewPart
from retort.errors import RetortError, TransientError

from retort_worker import leases
from retort_worker.context import WorkerContext
from retort_worker.leases import ClaimLost
from retort_worker.rounds import Rounds

_log = structlog.get_logger()
_FOLDER = "fetches"
_TOLD_S = 1.0
"""How often it is recorded how much has come."""
_LEAST_BYTES_S = 1024.0
Fetch = Callable[..., None]
"""As ``fetch_public``."""


class UrlFetcher(Rounds):
    """Thread that fetches the files which wait for it, one after the other."""

    def __init__(
        self, context: WorkerContext, *, look_s: float, fetch: Fetch = fetch_public, trusted: Sequence[Network] = ()
    ) -> None:
        super().__init__("fetching by URL", self.take, rest_s=look_s, over=lambda: context.draining)
        self._context = context
        self._settings = context.settings
        self._fetch = fetch
        self._limits = FetchLimits(
            most_bytes=self._settings.max_upload_bytes, most_s=self._settings.max_intake_s,
            least_bytes_s=_LEAST_BYTES_S, trusted=trusted, hosts=self._settings.fetch_from,
        )  # fmt: skip

    def take(self) -> bool:
        """Fetch the file that has waited longest; False where none waits."""
        with self._context.database.begin() as session:
            now = database_now(session)
            claimed = fetches.claim(session, worker=self._context.worker, now=now, lease_s=self._settings.lease_s)
        if claimed is None:
            return False
        folder = self._context.folder / _FOLDER / claimed.upload_id
        shutil.rmtree(folder, ignore_errors=True)  # an earlier attempt's
        folder.mkdir(parents=True)
        try:
            with leases.held(claimed.upload_id, self._settings, partial(self._renew, claimed)) as lost:
                self._bring(claimed, folder / "file", lost)
        except ClaimLost:
            _log.warning("fetch's claim lost, or given back", upload=claimed.upload_id)
        except RetortError as error:
            self._fail(claimed, FetchFailure(error.code, error.message, error.hint))
        except OSError as error:
            self._fail(claimed, FetchFailure("storage_full", f"the worker cannot keep the file: {error.strerror}"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _bring(self, claimed: FetchClaim, path: Path, lost: threading.Event) -> None:
        self._fetch(claimed.url, path, self._limits, told=self._teller(claimed, lost))
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if claimed.sha256 not in {None, sha256}:
            message = f"the URL gives a file with the SHA-256 {sha256}, not the announced one"
            raise RetortError(message, code="bad_digest", hint="it has changed, or the digest is another file's")
        size_bytes = path.stat().st_size
        if not size_bytes:
            raise RetortError("the URL gives an empty file", code="fetch_failed", hint="look at its spelling")
        self._announce(claimed, size_bytes)
        stored = self._context.store.put(path)
        if lost.is_set():
            raise ClaimLost
        with self._context.database.begin() as session:
            part = NewPart(stored.sha256, stored.size_bytes, stored.key)
            if not fetches.finish(session, claimed, part, now=database_now(session)):
                raise ClaimLost
        _log.info("fetched by URL", upload=claimed.upload_id, sha256=sha256, bytes=size_bytes)

    def _teller(self, claimed: FetchClaim, lost: threading.Event) -> Callable[[int, int | None], None]:
        """Record the file's size once, and how much has come now and then."""
        announced: int | None = None
        next_at = 0.0

        def told(received: int, total: int | None) -> None:
            nonlocal announced, next_at
            if lost.is_set() or self._context.draining:
                with self._context.database.begin() as session:
                    fetches.give_back(session, claimed)
                raise ClaimLost
            if total is not None and total != announced:
                self._announce(claimed, total)
                announced = total
            if time.monotonic() >= next_at:
                with self._context.database.begin() as session:
                    fetches.progress(session, claimed, received)
                next_at = time.monotonic() + _TOLD_S

        return told

    def _announce(self, claimed: FetchClaim, size_bytes: int) -> None:
        """Record how large the file is, if there is room for it.

        Raises:
            QuotaExceeded: the project has used its bytes.
            TransientError: the worker's disk has no room.

        """
        free = shutil.disk_usage(self._context.folder).free
        if free - size_bytes < self._settings.min_free_bytes:
            raise TransientError(f"no room for {size_bytes:,} bytes on the worker's disk", code="storage_full")
        with self._context.database.begin() as session:
            if not fetches.announce(session, claimed, size_bytes):
                raise ClaimLost

    def _renew(self, claimed: FetchClaim) -> bool:
        with self._context.database.begin() as session:
            return fetches.renew(session, claimed, now=database_now(session), lease_s=self._settings.lease_s)

    def _fail(self, claimed: FetchClaim, failure: FetchFailure) -> None:
        with self._context.database.begin() as session:
            fetches.fail(session, claimed, failure, now=database_now(session))
        _log.info("could not be fetched", upload=claimed.upload_id, code=failure.code, error=failure.message)
