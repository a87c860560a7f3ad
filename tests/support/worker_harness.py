"""A whole service for a test: its database, its store, and worker processes that run scripts."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from PIL import Image
from retort.db import Database, artifacts, events, jobs, metrics, queue, reruns
from retort.db.models import ArtifactRow, AttemptRow, EventRow, JobRow
from retort.db.session import database_now
from retort.settings import Settings
from retort.spec import parse_spec
from retort.states import TERMINAL, JobState
from retort.storage import Store
from retort_worker import celery_app
from retort_worker.context import ClaimedJob, WorkerContext
from retort_worker.gpus import CPU
from retort_worker.supervisor import RunSupervisor
from sqlalchemy import update
from sqlalchemy.exc import SADeprecationWarning

T = TypeVar("T")
PATIENCE_S = 60.0
"""How long a loaded machine may take; only a failing test waits for so long."""
SCRIPTED = (sys.executable, str(Path(__file__).with_name("scripted_run.py")))


def eventually(look: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Look again and again until something true is seen."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"did not happen within {timeout_s} s"
        time.sleep(0.02)
    return seen


def halt(process: subprocess.Popen[bytes]) -> None:
    """Stop a process, and wait until each of its threads stands still: on a loaded machine one may still be at work."""
    process.send_signal(signal.SIGSTOP)
    command = ["/bin/ps", "-L", "-o", "state=", "-p", str(process.pid)]
    eventually(lambda: set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()) == {"T"})


def command_line(path: Path) -> bytes:
    """Return a process's command line, empty once it is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    """Return True if the process runs: a zombie whose parent does not reap it does not."""
    command = ["/bin/ps", "-o", "state=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return bool(state) and not state.startswith("Z")


def write_dataset(home: Path) -> None:
    """Write the smallest data set that intake accepts."""
    part_colours = {"train": "red", "val": "blue"}
    for part, colour in part_colours.items():
        images, labels = home / "data" / "images" / part, home / "data" / "labels" / part
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        Image.new("RGB", (16, 16), color=colour).save(images / "one.png")
        (labels / "one.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (home / "data" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")


def document(home: Path, name: str, *, epochs: int, **resources: Any) -> dict[str, Any]:
    """A spec on that data set, for a run that plays what the job's name says."""
    return {
        "name": name,
        "data": {"path": str(home / "data")},
        "teacher": {"train": {"model": "yolov8n", "weights": None}},
        "student": {"model": "yolov8n", "weights": None},
        "training": {"epochs": epochs},
        "resources": resources,
    }


@dataclass
class House:
    """One service: its database, its store, and the workers that a test starts."""

    home: Path
    database_url: str
    broker_url: str
    settings: Settings = field(init=False)
    database: Database = field(init=False)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = self.with_settings()
        self.database = Database(self.database_url)
        write_dataset(self.home)

    def with_settings(self, **changes: Any) -> Settings:
        fast = {"lease_s": 15.0, "heartbeat_s": 0.3, "poll_s": 0.3, "reap_s": 0.3, "grace_s": 2.0}
        urls = {"database_url": self.database_url, "broker_url": self.broker_url}
        return Settings(home=self.home, **{**fast, **urls, **changes})

    def submit(self, script: str, *, epochs: int = 3, retries: int = 3, **resources: Any) -> str:
        with self.database.begin() as session:
            return jobs.submit(
                session,
                parse_spec(document(self.home, script, epochs=epochs, **resources)),
                now=database_now(session),
                retries=retries,
            ).job_id

    def resubmit(self, parent: JobRow) -> str:
        """Retry a job that has ended."""
        with self.database.begin() as session:
            spec = parse_spec(parent.spec)
            return jobs.submit(
                session, spec, now=database_now(session), retries=3, parent=parent, go_on=True
            ).job_id  # fmt: skip

    def extend(self, job_id: str, epochs: int) -> str:
        """Add epochs to a job that has succeeded."""
        with self.database.begin() as session:
            terms = reruns.RerunTerms(now=database_now(session), retries=3, admit=lambda _: ())
            return reruns.extend(session, job_id, reruns.MoreEpochs(epochs), terms).job_id

    def workshop(self, **changes: Any) -> WorkerContext:
        settings = self.with_settings(**changes)
        store = Store(settings.store_url)
        return WorkerContext(self.database, store, settings, f"test:{uuid4().hex[:6]}", "test", SCRIPTED)

    def supervision(self, job_id: str, workshop: WorkerContext | None = None) -> tuple[RunSupervisor, ClaimedJob]:
        workshop = workshop or self.workshop()
        self.hurry(job_id)
        (claimed,) = workshop.claim({job_id: CPU})
        return RunSupervisor(workshop, claimed), claimed

    def hurry(self, job_id: str) -> None:
        """Let a retry be claimed at once."""
        with self.database.begin() as session:
            session.execute(update(JobRow).where(JobRow.id == job_id).values(claimable_at=0.0))

    def run(self, job_id: str, **changes: Any) -> JobState | None:
        return self.supervision(job_id, self.workshop(**changes))[0].run()

    def job(self, job_id: str) -> JobRow:
        with self.database.read() as session:
            return jobs.get(session, job_id)

    def attempts(self, job_id: str) -> list[AttemptRow]:
        with self.database.read() as session:
            return jobs.attempts_of_job(session, job_id)

    def artifacts(self, job_id: str) -> dict[str, ArtifactRow]:
        with self.database.read() as session:
            return {row.name: row for row in artifacts.of_job(session, job_id)}

    def content(self, artifact: ArtifactRow) -> bytes:
        return b"".join(Store(self.settings.store_url).read(artifact.key))

    def events(self, job_id: str) -> list[EventRow]:
        with self.database.read() as session:
            return events.list_after(session, job_id, 0, 100_000)

    def steps(self, job_id: str, name: str = "train/loss") -> list[int]:
        """Steps of a metric, as a chart shows them."""
        with self.database.read() as session:
            found = metrics.series(session, job_id, name=name, limit=100_000)
        return [point.step for series in found for point in series.points]

    def cancel(self, job_id: str) -> None:
        self.wish(jobs.cancel, job_id)

    def wish(self, what: Callable[..., JobState], job_id: str) -> JobState:
        """Ask for something, as a client would."""
        with self.database.begin() as session:
            return what(session, job_id, now=database_now(session), actor="test")

    def reap(self, after_s: float) -> list[queue.ReapedJob]:
        """Reap as of some time in the future."""
        with self.database.begin() as session:
            return queue.reap(session, now=database_now(session) + after_s)

    def wait(self, job_id: str, *states: JobState, timeout_s: float = PATIENCE_S) -> JobRow:
        wanted = set(states) or TERMINAL
        eventually(lambda: self.job(job_id).state in wanted, timeout_s)
        return self.job(job_id)

    def workdir(self, job_id: str) -> Path:
        return self.home / "work" / job_id

    def child(self, job_id: str) -> int:
        """The process that a run has started, by its number here; 0 where there is none.

        Inside of a confinement, numbers are others.
        """
        name = f"child of {job_id}".encode()
        found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if name in command_line(path)]
        return int(found[0].parent.name) if found and (self.workdir(job_id) / "child.pid").exists() else 0

    def run_is_gone(self, job_id: str) -> bool:
        """Return True if nobody holds the working folder any more."""
        with (self.workdir(job_id) / "run.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def ring(self, job_id: str, times: int = 1) -> None:
        app = celery_app.build(self.settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SADeprecationWarning)  # kombu's own tables
            for _ in range(times):
                app.send_task(celery_app.TASK, (job_id,), queue=celery_app.QUEUE)
        app.close()

    def worker(self, *, program: tuple[str, ...] = ("-m", "retort_worker"), **changes: Any) -> subprocess.Popen[bytes]:
        """Start a real worker process."""
        settings = self.with_settings(**changes)
        names = ("home", "database_url", "broker_url", "lease_s", "heartbeat_s", "poll_s", "reap_s", "grace_s", "slots")
        variables = {f"RETORT_{name.upper()}": str(getattr(settings, name)) for name in names}
        command = [sys.executable, *program, "--run-command", *SCRIPTED]
        with (self.home / f"worker-{len(self.workers)}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **variables, "RETORT_SECRET": "x", "RETORT_PREDICTOR_IDLE_S": "0"},
                stdout=log,
                stderr=log,
            )
        self.workers.append(process)
        return process

    def log(self, number: int = 0) -> str:
        return (self.home / f"worker-{number}.log").read_text()

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()
        self.database.close()
        # Pytest shows this beside a failure.
        for log in (*self.home.glob("worker-*.log"), *self.home.glob("work/*/run.log")):
            sys.stdout.write(f"--- {log.relative_to(self.home)}\n{log.read_text(errors='replace')}\n")
