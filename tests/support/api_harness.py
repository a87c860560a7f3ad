"""What the tests of the API stand on: an application in this process, and a worker's side of the story."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import httpx2
import uvicorn
from fastapi.testclient import TestClient
from results import RESULT
from retort.constants import MAP, Role
from retort.db import Database, Lease, artifacts, events, queue, sweeps, transitions
from retort.db.artifacts import NewArtifact
from retort.db.models import SweepTrialRow
from retort.db.session import database_now
from retort.protocol.events import AnyEvent, MetricEvent, RunFailure
from retort.settings import Settings
from retort.spec.result import Result
from retort.states import TrialState
from retort.storage import Store
from retort.sweeps.planner import decide
from retort_api.app import create_app
from retort_api.connections import server_config
from servers import free_port
from support.identity import HEADERS

T = TypeVar("T")
SPEC: dict[str, Any] = {"name": "first", "data": {"path": "/data/digits"}, "teacher": {"weights": "yolo11s.pt"}}
SWEEP: dict[str, Any] = {
    "name": "kd-search",
    "base": {**SPEC, "distillation": {"recipe": "article"}},
    "parameters": {
        "distillation.losses.0.temperature": {"values": [2.0, 4.0, 7.0]},
        "distillation.losses.0.weight": {"values": [0.7, 0.3], "also": {"distillation.losses.1.weight": [0.3, 0.7]}},
    },
    "search": {"strategy": "grid"},
    "concurrency": 2,
}
LEASE_S = 60.0
LOCAL = "http://127.0.0.1:8000"
"""Where clients in this process find the application: under other names it does not answer."""


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
            lease = queue.claim(
                session, job_id, worker="w1", host="here", now=database_now(session), lease_s=LEASE_S, device="cpu"
            )
        assert lease is not None
        return lease

    def record(self, lease: Lease, *said: AnyEvent) -> None:
        with self.database.begin() as session:
            now = database_now(session)
            assert events.record(session, lease, said, now=now, lease_s=LEASE_S, journal_offset=0)

    def publish(
        self,
        lease: Lease,
        name: str,
        data: bytes,
        *,
        media_type: str = "application/octet-stream",
        metadata: Mapping[str, Any] = MappingProxyType({"epoch": 1}),
    ) -> str:
        path = self.folder / "artifact"
        path.write_bytes(data)
        stored = self.store.put(path)
        artifact = NewArtifact(
            name=name, role="student", sha256=stored.sha256, size_bytes=stored.size_bytes, media_type=media_type,
            key=stored.key, metadata=dict(metadata),
        )  # fmt: skip
        with self.database.begin() as session:
            assert artifacts.record(session, lease, artifact, now=database_now(session))
        return stored.key

    def succeed(self, lease: Lease, result: Result) -> None:
        with self.database.begin() as session:
            assert transitions.succeed(session, lease, now=database_now(session), result=result)

    def sweep(self, sweep_id: str) -> None:
        """Move a sweep on as far as it goes by itself."""
        while True:
            with self.database.read() as session:
                standing = sweeps.load(session, sweep_id)
            decision = decide(standing.spec, standing.state, standing.trials, standing.failure)
            if not decision:
                return
            with self.database.begin() as session:
                assert sweeps.apply(session, standing, decision, now=database_now(session))

    def try_all(self, sweep_id: str, score: Callable[[dict[str, Any]], float]) -> None:
        """Run the sweep to its end; each trial reaches what *score* says of its parameters."""
        self.sweep(sweep_id)
        while waiting := self._waiting(sweep_id):
            for trial in waiting:
                assert trial.job_id is not None
                lease = self.claim(trial.job_id)
                self.record(
                    lease, MetricEvent(n=1, at=0, role=Role.STUDENT, step=1, values={MAP: score(trial.parameters)})
                )
                self.succeed(lease, RESULT)
            self.sweep(sweep_id)

    def _waiting(self, sweep_id: str) -> list[SweepTrialRow]:
        with self.database.read() as session:
            return [one.trial for one in sweeps.trials(session, sweep_id) if one.state is TrialState.QUEUED]

    def fail(self, lease: Lease, failure: RunFailure) -> None:
        with self.database.begin() as session:
            assert transitions.fail(session, lease, now=database_now(session), failure=failure, exit_code=1)


@contextmanager
def serving(settings: Settings) -> Iterator[TestClient]:
    """Serve in this process."""
    with TestClient(create_app(settings), base_url=LOCAL, headers=HEADERS) as client:
        yield client


@contextmanager
def listening(template: Path, home: Path, **chosen: Any) -> Iterator[str]:
    """Serve from a thread of this process, on a copy of the database *template*; yield the address."""
    database = home / "retort.db"
    database.write_bytes(template.read_bytes())
    with listening_as(Settings(home=home, database_url=f"sqlite:///{database}", port=free_port(), **chosen)) as url:
        yield url


@contextmanager
def listening_as(settings: Settings) -> Iterator[str]:
    """Serve from a thread of this process at the port of *settings*; yield the address."""
    config = server_config(create_app(settings), settings, port=settings.port, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started or None, within_s=60)
        yield f"http://127.0.0.1:{settings.port}"
    finally:
        server.should_exit = True
        thread.join()


class Process:
    """python -m retort_api on a port of its own."""

    def __init__(self, home: Path, database_url: str, **chosen: str) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.settings = Settings(home=home, database_url=database_url)
        self.log = home / "api.log"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RETORT_")},
            "RETORT_HOME": str(home), "RETORT_DATABASE_URL": database_url, "RETORT_PORT": str(port),
            "RETORT_LOG_JSON": "true", **{f"RETORT_{name.upper()}": value for name, value in chosen.items()},
        }  # fmt: skip
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "retort_api"]
            self.process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)

    def wait_until_up(self) -> None:
        """Return once it answers."""

        def answers() -> bool | None:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return httpx2.get(f"{self.url}/livez").status_code == 200
            except httpx2.TransportError:
                return None

        eventually(answers, within_s=60)

    def close(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@contextmanager
def started(template: Path, home: Path, **chosen: str) -> Iterator[Process]:
    """Serve from a process of its own, on a copy of the database *template*, with *chosen* settings."""
    database = home / "retort.db"
    database.write_bytes(template.read_bytes())
    with closing(Process(home, f"sqlite:///{database}", **chosen)) as process:
        process.wait_until_up()
        yield process
