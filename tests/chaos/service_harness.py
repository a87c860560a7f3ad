"""A whole service to be tormented: a database, API processes, and workers each on a machine of its own, as it seems."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx2 as httpx
from retort.db import Database, jobs, migrate
from retort.db.models import JobRow
from retort.states import TERMINAL, JobState
from servers import Postgres, free_port
from support import identity
from support.worker_harness import document, write_dataset

T = TypeVar("T")
TRAINER = (sys.executable, "-S", "-E", str(Path(__file__).with_name("trainer.py")))
SHORT = {"lease_s": 3.0, "heartbeat_s": 0.5, "poll_s": 0.5, "reap_s": 0.5, "grace_s": 2.0, "max_retries": 1000}
"""Times under which hundreds of failures take minutes; the retries are bounded by the kinds of failures alone."""
PATIENCE_S = 240.0


def eventually(look: Callable[[], T], timeout_s: float = PATIENCE_S, every_s: float = 0.05) -> T:
    """Look again and again until something true is seen."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing within {timeout_s} s")
        time.sleep(every_s)
    return seen


@dataclass
class Machine:
    """A worker's machine: its folder outlives the worker."""

    folder: Path
    settings: dict[str, Any]
    command: tuple[str, ...] | None = TRAINER
    """What trains; None is the real thing."""
    prefix: tuple[str, ...] = ()
    """What the worker is started by, such as a command that puts it into a network of its own."""
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0

    def age_s(self) -> float:
        """For how long its worker has been there."""
        return time.monotonic() - self.started_at

    def runs(self) -> list[tuple[str, int]]:
        """Job and process group of each run that was started here and whose folder is still there."""
        found = []
        for path in (self.folder / "work").glob("job_*/run.group"):
            with contextlib.suppress(OSError, ValueError):
                found.append((path.parent.name, int(path.read_text().partition(" ")[0])))
        return found


@dataclass
class Stage:
    """One database, and whatever is started on it."""

    folder: Path
    postgres: Postgres
    broker_url: str
    settings: dict[str, Any] = field(default_factory=lambda: dict(SHORT))
    apis: list[tuple[int, subprocess.Popen[bytes]]] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    accepted: dict[str, int] = field(default_factory=dict)
    """Epochs by job, of those that the API has accepted."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        write_dataset(self.folder)
        self.database_name = self.postgres.create()
        self.database = Database(self.postgres.url(self.database_name))
        migrate.upgrade(self.database)
        identity.seed(self.database)
        self._turn = itertools.count()
        self._http = httpx.Client(timeout=10, trust_env=False, headers=identity.HEADERS)

    @property
    def store_url(self) -> str:
        return (self.folder / "artifacts").as_uri()

    def environment(self, **changes: Any) -> dict[str, str]:
        urls = {"database_url": self.postgres.url(self.database_name), "broker_url": self.broker_url}
        given = {"home": self.folder, "store_url": self.store_url, **urls, **self.settings, **changes}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
        return {**kept, **{f"RETORT_{name.upper()}": str(value) for name, value in given.items()}}

    def start_api(self) -> int:
        """Start another API process; return its port once it answers."""
        port = free_port()
        self.apis.append((port, self._spawn_api(port)))
        eventually(lambda: self._alive(port), 60)
        return port

    def restart_api(self, index: int) -> None:
        """Start the API at *index* anew, on its port."""
        port, process = self.apis[index]
        process.wait()
        self.apis[index] = (port, self._spawn_api(port))

    def _spawn_api(self, port: int) -> subprocess.Popen[bytes]:
        with (self.folder / f"api-{port}.log").open("ab") as log:
            command = [sys.executable, "-m", "retort_api"]
            return subprocess.Popen(command, env=self.environment(port=port), stdout=log, stderr=log)

    def _alive(self, port: int) -> bool:
        try:
            return self._http.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        except httpx.TransportError:
            return False

    def add_machine(
        self, *, command: tuple[str, ...] | None = TRAINER, prefix: tuple[str, ...] = (), **settings: Any
    ) -> Machine:
        """Add a machine with a worker on it."""
        folder = self.folder / f"machine-{len(self.machines)}"
        folder.mkdir()
        machine = Machine(folder, settings, command, prefix)
        self.machines.append(machine)
        self.start_worker(machine)
        return machine

    def start_worker(self, machine: Machine) -> None:
        """Start the machine's worker (anew)."""
        if machine.process is not None:
            machine.process.wait()
        environment = self.environment(work_dir=machine.folder / "work", predictor_idle_s=0, **machine.settings)
        given = ["--run-command", *machine.command] if machine.command else []
        command = [*machine.prefix, sys.executable, "-m", "retort_worker", *given]
        with (machine.folder / "worker.log").open("ab") as log:
            machine.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        machine.started_at = time.monotonic()

    def ready(self) -> None:
        """Wait until every worker polls."""
        for machine in self.machines:
            eventually(lambda log=machine.folder / "worker.log": " ready." in log.read_text(errors="replace"), 60)

    def submit(self, name: str, epochs: int, *, timeout_s: float = PATIENCE_S, **resources: Any) -> str:
        """Submit as a careful client does: again and again under one key, to whichever API answers."""
        job_id = self.submit_document(document(self.folder, name, epochs=epochs, **resources), timeout_s=timeout_s)
        self.accepted[job_id] = epochs
        return job_id

    def submit_document(self, body: dict[str, Any], *, timeout_s: float = PATIENCE_S) -> str:
        """Submit a whole spec in the same way."""
        key = {"Idempotency-Key": uuid4().hex}

        def post() -> str | None:
            port = self.apis[next(self._turn) % len(self.apis)][0]
            try:
                answer = self._http.post(f"http://127.0.0.1:{port}/v1/jobs", json=body, headers=key)
            except httpx.TransportError:
                return None
            assert answer.status_code in {202, 503}, answer.text
            return str(answer.json()["id"]) if answer.status_code == 202 else None

        job_id = eventually(post, timeout_s)
        self.accepted[job_id] = 0
        return job_id

    def ask(self, job_id: str, what: str) -> None:
        """Ask for something, such as ``cancel``."""
        self._http.post(f"http://127.0.0.1:{self.apis[0][0]}/v1/jobs/{job_id}/{what}").raise_for_status()

    def states(self) -> dict[str, JobState]:
        """Return the states of the accepted jobs, as far as they are known."""
        with self.database.read() as session:
            return jobs.states(session, list(self.accepted))

    def number(self, *wanted: JobState) -> int:
        """Return how many jobs are in one of the states."""
        with self.database.read() as session:
            counts = jobs.counts(session)
        return sum(counts[state] for state in wanted)

    def job(self, job_id: str) -> JobRow:
        """Return a job."""
        with self.database.read() as session:
            return jobs.get(session, job_id)

    def wait_for_all(self, timeout_s: float = PATIENCE_S) -> list[str]:
        """Wait until every accepted job has ended; return those that have not in time, or are gone."""
        going_on = set(JobState) - TERMINAL
        with contextlib.suppress(TimeoutError):
            eventually(lambda: not self.number(*going_on), timeout_s, 0.2)
        return self._open()

    def _open(self) -> list[str]:
        states = self.states()
        return [job_id for job_id in self.accepted if states.get(job_id) not in TERMINAL]

    def wait(self, job_id: str, *wanted: JobState, timeout_s: float = PATIENCE_S) -> JobRow:
        """Wait until the job is in one of the states."""
        eventually(lambda: self.states().get(job_id) in wanted, timeout_s)
        return self.job(job_id)

    def close(self) -> None:
        """End everything that was started here."""
        processes = [process for _, process in self.apis] + [one.process for one in self.machines if one.process]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self._http.close()
        self.database.close()

    def orphans(self) -> list[int]:
        """Return the processes that belong to runs of this stage, whoever started them."""
        mark = str(self.folder / "machine-").encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes()
                if mark in words and b"retort_worker" not in words:
                    found.append(int(path.parent.name))
        return found


@contextlib.contextmanager
def staged(folder: Path, postgres: Postgres, broker_url: str, **settings: Any) -> Iterator[Stage]:
    """Give a stage, and end everything on it."""
    stage = Stage(folder, postgres, broker_url, {**SHORT, **settings})
    with closing(stage):
        yield stage
