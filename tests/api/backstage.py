"""What the tests of the API stand on: an application in this process, and a worker's side of the story."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastapi.testclient import TestClient
from retort.artifacts import Store
from retort.db import Database, Lease, artifacts, clock, events, jobs
from retort.db.artifacts import NewArtifact
from retort.events import AnyEvent, Failure
from retort.settings import Settings
from retort_api.app import create_app

T = TypeVar("T")
SPEC: dict[str, Any] = {"name": "first", "data": {"path": "/data/digits"}, "teacher": {"weights": "yolo11s.pt"}}
LEASE_S = 60.0


def eventually(look: Callable[[], T | None], within_s: float = 10.0) -> T:
    """Return what *look* finds, as soon as it finds something."""
    deadline = time.monotonic() + within_s
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"nothing within {within_s} s"
        time.sleep(0.01)
    return found


@dataclass
class Worker:
    """What a worker does to the database and the store."""

    database: Database
    store: Store
    folder: Path

    def claim(self, job_id: str) -> Lease:
        with self.database.begin() as session:
            lease = jobs.claim(
                session, job_id, worker="w1", host="here", now=clock.now(session), lease_s=LEASE_S, device="cpu"
            )
        assert lease is not None
        return lease

    def record(self, lease: Lease, *said: AnyEvent) -> None:
        with self.database.begin() as session:
            now = clock.now(session)
            assert events.record(session, lease, said, now=now, lease_s=LEASE_S, journal_offset=0)

    def publish(
        self,
        lease: Lease,
        name: str,
        data: bytes,
        *,
        media_type: str = "application/octet-stream",
    ) -> str:
        path = self.folder / "artifact"
        path.write_bytes(data)
        stored = self.store.put(path)
        artifact = NewArtifact(
            name=name, role="student", sha256=stored.sha256, size_bytes=stored.size_bytes, media_type=media_type,
            key=stored.key, metadata={"epoch": 1},
        )  # fmt: skip
        with self.database.begin() as session:
            assert artifacts.record(session, lease, artifact, now=clock.now(session))
        return stored.key

    def succeed(self, lease: Lease, result: dict[str, Any]) -> None:
        with self.database.begin() as session:
            assert jobs.succeed(session, lease, now=clock.now(session), result=result)

    def fail(self, lease: Lease, failure: Failure) -> None:
        with self.database.begin() as session:
            assert jobs.fail(session, lease, now=clock.now(session), failure=failure, exit_code=1)


@contextmanager
def serving(settings: Settings) -> Iterator[TestClient]:
    """Serve in this process."""
    with TestClient(create_app(settings)) as client:
        yield client
