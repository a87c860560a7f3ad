"""Share a worker's database, store and settings; claim jobs."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from retort.db import Database, queue, workers
from retort.db.session import database_now
from retort.settings import Settings
from retort.storage import Store
from retort.tracking import dispatcher

from retort_worker.confinement_check import HostConfinement
from retort_worker.dataset_cache import DatasetCache
from retort_worker.gpus import Device

RUN = (sys.executable, "-m", "retort.run")
"""The program that trains; it is given a spec and a working folder."""


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job claimed by this worker, with its device."""

    claim: queue.Claim
    device: Device
    started: float
    """This machine's monotonic clock before the claim."""


@dataclass
class WorkerContext:
    """A worker's database, store and settings, and its name."""

    database: Database
    store: Store
    settings: Settings
    worker: str
    host: str
    command: tuple[str, ...] = RUN
    tracker: tuple[str, ...] = dispatcher.COMMAND
    """The program that tells a tracker."""
    confinement: HostConfinement = field(default_factory=HostConfinement)
    draining: bool = False

    def drain(self) -> None:
        """Claim no more jobs, and stop the runs."""
        self.draining = True

    def waiting(self, gpus: int | None, number: int, *, cpu_allowed: bool = True) -> list[queue.ClaimableJob]:
        """Return at most *number* claimable jobs, next first, within *gpus* GPUs.

        None is for a worker without any: it leaves the jobs to a running worker that has some, and those that require a
        GPU in any case; unless *cpu_allowed*, all but those whose specs let the CPU stand in. A drained worker finds
        none.
        """
        with self.database.autocommit_read() as session:
            if workers.is_drained(session, self.worker):
                return []
            now = database_now(session)
            if gpus is None and workers.gpus_elsewhere(session, now=now, within_s=self.settings.lease_s):
                return []
            on_cpu: queue.OnCpu | None = None
            if gpus is None:
                on_cpu = "unless_gpu_required" if cpu_allowed else "if_spec_allows"
            return queue.claimable(session, now=now, gpus=gpus, on_cpu=on_cpu, number=number)

    def claim(self, wanted: Mapping[str, Device]) -> list[ClaimedJob]:
        """Claim those *wanted* jobs that are still claimable, each for its device."""
        started = time.monotonic()
        names = {job_id: device.name for job_id, device in wanted.items()}
        with self.database.begin() as session:
            claims = queue.claim_all(
                session,
                names,
                worker=self.worker,
                host=self.host,
                now=database_now(session),
                lease_s=self.settings.lease_s,
            )
        return [ClaimedJob(claim, wanted[claim.lease.job_id], started) for claim in claims]

    @cached_property
    def datasets(self) -> DatasetCache:
        """Registered datasets that are on this machine."""
        assert self.settings.dataset_dir is not None
        return DatasetCache(self.settings.dataset_dir, most_bytes=self.settings.max_dataset_cache_bytes)

    def has_room(self) -> bool:
        """Return True while the disk of the working folders has space."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.folder).free >= self.settings.min_free_bytes

    @property
    def folder(self) -> Path:
        """Folder that holds the working folders of the runs."""
        assert self.settings.work_dir is not None
        return self.settings.work_dir
