"""A database and the shortest ways to bring jobs into any position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from retort.db import Database, Lease, jobs, queue
from retort.db.models import Base
from retort.spec import JobSpec, parse_spec
from sqlalchemy import select
from sqlalchemy.orm import Session

T0 = 1_000_000.0
"""When everything begins, by the tests' own clock."""
LEASE_S = 30.0


class Shop:
    """A database and the shortest ways to bring jobs into it."""

    def __init__(self, database: Database, spec: JobSpec) -> None:
        self.database = database
        self.spec = spec

    def queued(self, *, retries: int = 3, now: float = T0, resources: dict[str, Any] | None = None, **more: Any) -> str:
        spec = parse_spec({**self.spec.model_dump(mode="json"), "resources": resources or {}})
        with self.database.begin() as session:
            return jobs.submit(session, spec, now=now, retries=retries, **more).job_id

    def claimed(self, job_id: str, *, worker: str = "w1", now: float = T0) -> Lease:
        with self.database.begin() as session:
            lease = queue.claim(session, job_id, worker=worker, host="h1", now=now, lease_s=LEASE_S)
        assert lease is not None
        return lease

    def running(self, *, retries: int = 3, now: float = T0, **more: Any) -> Lease:
        return self.claimed(self.queued(retries=retries, now=now, **more), now=now)

    def claimable(
        self, *, now: float = T0, gpus: int | None = None, on_cpu: queue.OnCpu | None = None, number: int = 1
    ) -> list[str]:
        """The jobs that a worker would try, in that order."""
        with self.database.read() as session:
            return [job.job_id for job in queue.claimable(session, now=now, gpus=gpus, on_cpu=on_cpu, number=number)]

    def pausing(self, *, retries: int = 3) -> Lease:
        lease = self.running(retries=retries)
        with self.database.begin() as session:
            jobs.pause(session, lease.job_id, now=T0, actor="client")
        return lease

    def cancelling(self, *, retries: int = 3) -> Lease:
        lease = self.running(retries=retries)
        with self.database.begin() as session:
            jobs.cancel(session, lease.job_id, now=T0, actor="client")
        return lease

    @contextmanager
    def doomed(self) -> Iterator[Session]:
        """A transaction that an exception ends."""
        with suppress(ZeroDivisionError), self.database.begin() as session:
            yield session
            raise ZeroDivisionError

    def job(self, job_id: str) -> Any:
        with self.database.read() as session:
            return jobs.get(session, job_id)

    def rows(self, table: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """Everything in the tables."""
        with self.database.read() as session:
            return {
                name: [dict(row._mapping) for row in session.execute(select(found).order_by(*found.primary_key))]
                for name, found in Base.metadata.tables.items()
                if table in {None, name}
            }

    def events(self, job_id: str) -> list[dict[str, Any]]:
        return [row for row in self.rows("events")["events"] if row["job_id"] == job_id]


def at_once(work: Callable[[int], Any], count: int) -> list[Any]:
    """Run ``work(0) … work(count - 1)`` in threads; exceptions come back as values."""
    with ThreadPoolExecutor(count) as pool:
        waiting = [pool.submit(work, number) for number in range(count)]
        return [future.exception() or future.result() for future in waiting]
