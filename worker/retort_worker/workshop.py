"""What all runs of one worker share, and how it takes a job."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.artifacts import Store
from retort.db import Database, Lease, clock, jobs
from retort.settings import Settings

from retort_worker.devices import Device

RUN = (sys.executable, "-m", "retort.run")
"""The program that trains; it is given a spec and a working folder."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this worker now holds; *started* is this machine's monotonic clock before the claim."""

    lease: Lease
    spec: Mapping[str, Any]
    started: float
    ran_s: float
    """How long earlier attempts ran."""
    adjustments: Mapping[str, Any] | None
    recovery: Mapping[str, Any] | None


@dataclass
class Workshop:
    """A worker's database, store and settings, and its name."""

    database: Database
    store: Store
    settings: Settings
    worker: str
    host: str
    command: tuple[str, ...] = RUN
    draining: bool = False

    def drain(self) -> None:
        """Claim no more, and stop what runs."""
        self.draining = True

    def waiting(self, gpus: int | None) -> list[jobs.Waiting]:
        """Return the jobs to try to claim, in that order; none that needs more than *gpus*."""
        with self.database.read() as session:
            return jobs.claimable(session, now=clock.now(session), gpus=gpus)

    def claim(self, job_id: str, device: Device) -> Claimed | None:
        """Take the job if it may be claimed (still)."""
        started = time.monotonic()
        with self.database.begin() as session:
            lease = jobs.claim(
                session,
                job_id,
                worker=self.worker,
                host=self.host,
                now=clock.now(session),
                lease_s=self.settings.lease_s,
                device=device.name,
            )
            if lease is None:
                return None
            job = jobs.get(session, job_id)
            return Claimed(lease, job.spec, started, job.run_s, job.adjustments, job.recovery)

    @property
    def folder(self) -> Path:
        """Where the runs' working folders are."""
        assert self.settings.work_dir is not None
        return self.settings.work_dir
