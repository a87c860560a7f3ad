"""The runner: supervises one run from its claim to its end."""

from __future__ import annotations

import fcntl
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from retort.artifacts import Store
from retort.db import Database, DatabaseUnavailable, Lease, clock, jobs
from retort.errors import RetortError
from retort.events import AnyEvent, FailedEvent, Failure, FinishedEvent, StoppedEvent
from retort.settings import Settings
from retort.spec import parse_spec
from retort.states import JobState

from retort_worker import inputs
from retort_worker.devices import Device
from retort_worker.fence import Fence
from retort_worker.outcome import Outcome, explain, judge, tail
from retort_worker.process import RunProcess, kill_leftover
from retort_worker.publisher import LOG_NAME, Publisher
from retort_worker.recorder import LeaseLost, Recorder
from retort_worker.settlement import settle

_log = structlog.get_logger()
_TICK_S = 0.1

RUN = (sys.executable, "-m", "retort.run")
"""The program that trains; it is given a spec and a working folder."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this worker now holds; *started* is this machine's monotonic clock before the claim."""

    lease: Lease
    spec: Mapping[str, Any]
    started: float


@dataclass
class Workshop:
    """What all runs of one worker share."""

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

    def claim(self, job_id: str, device: Device) -> Claimed | None:
        """Take the job if it is queued."""
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
            return None if lease is None else Claimed(lease, jobs.get(session, job_id).spec, started)

    @property
    def folder(self) -> Path:
        """Where the runs' working folders are."""
        assert self.settings.work_dir is not None
        return self.settings.work_dir


class Supervision:
    """One attempt: prepares, starts, listens, stops, publishes, and settles. All of it under one lease."""

    def __init__(self, workshop: Workshop, claimed: Claimed, device: Device) -> None:
        self._workshop = workshop
        self._settings = workshop.settings
        self._claimed = claimed
        self._lease = claimed.lease
        self._device = device
        self._workdir = workshop.folder / claimed.lease.job_id
        self._process: RunProcess | None = None
        self._last_word: AnyEvent | None = None
        self._fence = Fence(self._settings.lease_s, claimed.started, self._kill)
        self._publisher = Publisher(workshop.store, self._workdir)
        self._recorder = Recorder(
            workshop.database,
            self._lease,
            self._workdir,
            lease_s=self._settings.lease_s,
            heartbeat_s=self._settings.heartbeat_s,
            fence=self._fence,
            listen=self._listen,
        )
        self._log = _log.bind(job=self._lease.job_id, attempt=self._lease.attempt)

    def run(self) -> JobState | None:
        """Supervise to the end; return the job's new state, or None when the lease was lost and nothing was written."""
        self._log.info("run begins", device=self._device.name)
        state = None
        try:
            with self._fence:
                state = self._settle(self._attempt())
        except LeaseLost:
            self._log.warning("lease lost; the run was killed and nothing more is written")
        finally:
            self._end_process()
            self._publisher.close()
        self._log.info("run ended", state=state and str(state))
        if state is not None and state is not JobState.QUEUED:
            shutil.rmtree(self._workdir, ignore_errors=True)
        return state

    def _attempt(self) -> Outcome:
        try:
            return self._prepare() or self._train()
        except LeaseLost:
            raise
        except RetortError as error:
            self._log.warning("the attempt failed", code=error.code, error=error.message)
            failure = explain(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job's owner must hear of it
            self._log.exception("supervision failed")
            failure = explain(error)
        self._end_process()
        self._recorder.deaf = True
        return Outcome(failure=failure)

    def _prepare(self) -> Outcome | None:
        """Bring the working folder in order; an outcome comes back when that already ends the attempt."""
        self._workdir.mkdir(parents=True, exist_ok=True)
        if not self._folder_is_free():
            kill_leftover(self._workdir)
        deadline = time.monotonic() + self._settings.lease_s
        if not self._wait(lambda: self._folder_is_free() or time.monotonic() > deadline):
            return Outcome()
        if not self._folder_is_free():
            message = "an earlier run of this job still holds its working folder"
            return Outcome(failure=Failure(code="folder_busy", message=message, retryable=True))
        self._catch_up()
        preparing = _in_background(self._prepare_inputs)
        if not self._wait(preparing.done):
            return Outcome()
        preparing.result()
        return None

    def _prepare_inputs(self) -> None:
        spec = parse_spec(dict(self._claimed.spec))
        inputs.prepare(spec, self._settings, self._workdir, attempt=self._lease.attempt, device=self._device.index)

    def _catch_up(self) -> None:
        while True:
            try:
                self._recorder.catch_up()
            except DatabaseUnavailable:
                self._tick()
            else:
                self._last_word = None  # what earlier runs said at last is not this one's
                return

    def _train(self) -> Outcome:
        log = self._workdir / LOG_NAME
        start = log.stat().st_size if log.exists() else 0
        self._process = RunProcess.start(self._workshop.command, self._workdir, self._device.environment)
        told_to_stop = self._watch(self._process)
        code = self._process.close()
        while self._recorder.behind():
            self._tick()
        return judge(self._last_word, code, told_to_stop=told_to_stop, excerpt=tail(log, start))

    def _watch(self, process: RunProcess) -> bool:
        """Beat until the run has exited; return whether it was told to stop."""
        told_at: float | None = None
        while not process.ended():
            self._tick()
            if told_at is None and self._should_stop():
                told_at = time.monotonic()
                process.terminate()
            elif told_at is not None and time.monotonic() - told_at >= self._settings.grace_s:
                process.send(signal.SIGKILL)
        return told_at is not None

    def _settle(self, outcome: Outcome) -> JobState:
        self._publisher.add_log()
        while self._publisher.busy():
            self._tick()
        if outcome.result is not None and (failure := self._publisher.failure()) is not None:
            outcome = Outcome(failure=failure, exit_code=outcome.exit_code)
        live, final = self._publisher.fresh(), self._publisher.stored()
        while True:
            try:
                state = settle(self._workshop.database, self._lease, outcome, live=live, final=final)
            except DatabaseUnavailable:
                self._tick()
                continue
            if state is None:
                raise LeaseLost
            return state

    def _wait(self, done: Callable[[], bool]) -> bool:
        """Beat until *done*; False when the attempt should stop first."""
        while not done():
            self._tick()
            if self._should_stop():
                return False
        return True

    def _tick(self) -> None:
        fresh = self._publisher.fresh()
        if self._recorder.tick(fresh):
            self._publisher.announced(fresh)
        else:
            time.sleep(_TICK_S)

    def _should_stop(self) -> bool:
        return self._workshop.draining or self._recorder.wished is JobState.CANCELLING

    def _listen(self, event: AnyEvent) -> None:
        self._publisher.listen(event)
        if isinstance(event, FinishedEvent | FailedEvent | StoppedEvent):
            self._last_word = event

    def _folder_is_free(self) -> bool:
        """Whether the run of an earlier attempt is gone: until then it may still write to its journal."""
        try:
            with (self._workdir / "run.lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def _kill(self) -> None:
        if self._process is not None:
            self._process.send(signal.SIGKILL)

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.close()


def _in_background(work: Callable[[], None]) -> Future[None]:
    """Run *work* in a thread that does not keep the process alive."""
    future: Future[None] = Future()

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the future is read
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=body, name="prepare", daemon=True).start()
    return future
