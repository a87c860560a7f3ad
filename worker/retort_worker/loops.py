"""Periodic loops of a worker: poll, announcer, reaper, sweeper, housekeeper."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

import structlog
from retort.data.weights import registered_files
from retort.db import Database, DatabaseUnavailable, datasets, fetches, jobs, model_registry, queue, sweeps, workers
from retort.db.clock import ClockWatch
from retort.db.models import WorkerRow
from retort.db.session import IDLE_TIMEOUT_S, database_now
from retort.keeping import Keeper
from retort.protocol.workdir import COMPILED, TEACHER_CACHES
from retort.states import TERMINAL
from retort.sweeps.planner import decide

from retort_worker import gpu_check, gpus, workdir
from retort_worker.context import WorkerContext
from retort_worker.gpus import DevicePool
from retort_worker.rounds import Rounds
from retort_worker.worker import JobWorker

_log = structlog.get_logger()


class Poller:
    """Thread that starts claimable jobs every *poll_s* seconds.

    The thread looks at once when a slot becomes free.
    """

    def __init__(self, slots: JobWorker, *, poll_s: float) -> None:
        self._slots = slots
        self._poll_s = poll_s
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Start the thread, which ends by itself when the worker drains."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the worker drains and no more jobs are claimed here."""
        self._thread.join()

    def _run(self) -> None:
        while not self._slots.draining:
            try:
                self.poll()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next poll must come
                _log.warning("poll failed", error=str(error))
            self._slots.wait(self._poll_s)
        _log.info("draining: no more jobs are claimed here")

    def poll(self) -> int:
        """Start runs while slots and jobs are left; return the number started."""
        started = 0
        while begun := self._slots.start():
            started += len(begun)
        return started


class Announcer:
    """Thread that records that this worker runs, and what it can take.

    It does so three times per lease.
    """

    def __init__(self, context: WorkerContext, pool: DevicePool) -> None:
        self._context = context
        self._pool = pool
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread, which ends with the process or ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and record that the worker has ended."""
        self._stopped.set()
        self._thread.join()
        try:
            with self._context.database.begin() as session:
                workers.leave(session, self._context.worker)
        except DatabaseUnavailable as error:  # it is forgotten by itself
            _log.warning("leaving failed", error=str(error))

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.announce()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next one must come
                _log.warning("announcing failed", error=str(error))
            self._stopped.wait(self._context.settings.lease_s / 3)

    def announce(self) -> None:
        """Record that the worker runs now."""
        context = self._context
        with context.database.begin() as session:
            now = database_now(session)
            about = WorkerRow(
                name=context.worker, host=context.host, slots=self._pool.num_slots,
                gpus=self._pool.most_gpus or 0, devices=self._pool.declared(), started_at=now, seen_at=now,
                confinement=asdict(context.confinement.facts),
            )  # fmt: skip
            workers.announce(session, about)


_PAGE = 100


class Reaper(Rounds):
    """Thread that returns jobs of expired leases every *reap_s* seconds."""

    def __init__(self, database: Database, slots: JobWorker, *, reap_s: float, clock: ClockWatch) -> None:
        super().__init__("reaping", lambda: self.reap() == _PAGE, rest_s=reap_s)
        self._database = database
        self._slots = slots
        self._clock = clock

    def reap(self) -> int:
        """Move one page of lost and one page of expired jobs.

        Return the number of jobs on the longer page.
        """
        with self._database.autocommit_read() as session:
            asleep = queue.wake(session, idle_s=IDLE_TIMEOUT_S)
        if asleep:
            _log.warning("transactions of sleeping clients ended", number=asleep)
        changed = self._clock.look(self._database)
        if changed:
            _log.warning("clock set, or machine suspended", step_s=changed.step_s, suspended_s=changed.suspended_s)
            return 0
        with self._database.begin() as session:
            now = database_now(session)
            lost = queue.reap(session, now=now, limit=_PAGE)
            expired = queue.expire(session, now=now, limit=_PAGE)
            unchecked = datasets.reap(session, now=now) + fetches.reap(session, now=now)
        for job in lost:
            _log.warning("worker lost", job=job.job_id, state=str(job.state))
        for job in expired:
            _log.warning("waited too long", job=job.job_id)
        if unchecked:
            _log.warning("workers lost that fetched or looked through datasets", datasets=unchecked)
        if lost:
            self._slots.wake()
        return max(len(lost), len(expired))


class Sweeper:
    """Thread that advances the running sweeps every *look_s* seconds.

    Any number of workers may run such a thread at the same time. It decides from what it reads, outside of any
    transaction that writes; a decision is carried out only if the sweep is still as it was read, so that two workers
    never carry out both of theirs.
    """

    def __init__(self, database: Database, slots: JobWorker, *, look_s: float) -> None:
        self._database = database
        self._slots = slots
        self._look_s = look_s
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._seen: dict[str, tuple[Any, ...]] = {}

    def start(self) -> None:
        """Start the thread, which ends by itself when the worker drains."""
        self._thread.start()

    def _run(self) -> None:
        rest = threading.Event()
        while not self._slots.draining:
            try:
                self.sweep()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look must come
                _log.warning("sweeping failed", error=str(error))
            rest.wait(self._look_s)

    def sweep(self) -> int:
        """Advance each sweep that can be advanced; return their number."""
        with self._database.read() as session:
            pulses = {sweep_id: sweeps.fingerprint(session, sweep_id) for sweep_id in sweeps.live(session)}
        changed = [sweep_id for sweep_id, pulse in pulses.items() if self._seen.get(sweep_id) != pulse]
        self._seen = {sweep_id: pulse for sweep_id, pulse in self._seen.items() if sweep_id in pulses}
        moved = 0
        for sweep_id in changed:
            try:
                done = self.move_on(sweep_id)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other sweeps must go on
                _log.warning("sweep not moved on", sweep=sweep_id, error=str(error))
                continue
            moved += bool(done)
            if done is False:
                self._seen[sweep_id] = pulses[sweep_id]
        return moved

    def move_on(self, sweep_id: str) -> bool | None:
        """Advance one sweep by one decision; False when nothing is to do.

        None when it could not be done now.
        """
        with self._database.read() as session:
            standing = sweeps.load(session, sweep_id)
        decision = decide(standing.spec, standing.state, standing.trials, standing.failure)
        if not decision:
            return False
        with self._database.begin() as session:
            done = sweeps.apply(session, standing, decision, now=database_now(session))
        if done and decision.begun:
            self._slots.wake()
        if done:
            _log.info(
                "sweep moved on", sweep=sweep_id, begun=sorted(decision.begun), ended=sorted(decision.ended),
                pruned=sorted(decision.pruned), state=decision.state and str(decision.state),
            )  # fmt: skip
        return done or None


_LOOK_S = 60.0
_ORPHAN_S = 30 * 86_400.0
"""A working folder of a job that the database does not know goes after so long."""
_LOOKS_PER_TRY = 5
"""Asking PyTorch about a GPU takes a core for some seconds."""


class Housekeeper:
    """Thread that tidies folders, store and tables every *tidy_s* seconds.

    It begins at the start; several workers may run such a thread at the same time.
    """

    def __init__(self, context: WorkerContext, pool: DevicePool) -> None:
        self._context = context
        self._pool = pool
        self._keeper = Keeper(context.database, lambda: context.store, context.settings)
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        self._thread.start()

    def _run(self) -> None:
        rest = threading.Event()
        while True:
            self._try(self.tidy_folders)
            self._try(self.tidy_store)
            self._try(self.tidy_compiled)
            self._try(self.tidy_models)
            tidy_s = self._context.settings.tidy_s
            for number in range(1, ceil(tidy_s / _LOOK_S) + 1):
                self._try(self.release_gpus)
                rest.wait(min(_LOOK_S, tidy_s))
                if number % _LOOKS_PER_TRY == 0:
                    self._try(self.try_refused_gpus)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next round must come
            _log.warning("tidying failed", work=work.__name__, error=str(error))

    def tidy_folders(self) -> None:
        """Remove the working folders of jobs that have ended, here or elsewhere."""
        folders = {path.name: path for path in self._context.folder.glob("job_*") if path.is_dir()}
        with self._context.database.read() as session:
            states = jobs.states(session, list(folders))
        unknown_before = time.time() - _ORPHAN_S
        for job_id, path in folders.items():
            # Of a job that is not known here, another database may know more.
            over = states[job_id] in TERMINAL if job_id in states else path.stat().st_mtime < unknown_before
            if over and workdir.is_free(path):
                shutil.rmtree(path, ignore_errors=True)

    def tidy_store(self) -> None:
        """Apply retention, empty the trash, and delete bytes that nothing points to."""
        taken = self._keeper.round()
        told = {kind.replace(" ", "_"): number for kind, number in taken.numbers.items() if number}
        if told:
            _log.info("tidied", freed_bytes=taken.freed_bytes, **told)

    def tidy_compiled(self) -> None:
        """Remove compiled kernels and teacher caches that were not used for long."""
        for name in (COMPILED, TEACHER_CACHES):
            for path in (self._context.folder / name).rglob("*"):
                self._remove_unused(path)

    def tidy_models(self) -> None:
        """Remove fetched models that no run has used for long."""
        folder = self._context.settings.model_dir
        assert folder is not None
        for reference, path in registered_files(folder):
            with self._context.database.autocommit_read() as session:
                known = model_registry.find(session, reference) is not None
            if known:
                self._remove_unused(path)

    def _remove_unused(self, path: Path) -> None:
        kept_s = self._context.settings.keep_cache_s
        if kept_s is None:
            return
        with contextlib.suppress(OSError):  # a run may be at it
            seen = path.lstat()
            if not path.is_dir() and max(seen.st_atime, seen.st_mtime) < time.time() - kept_s:
                path.unlink()

    def try_refused_gpus(self) -> None:
        """Try the refused GPUs again: a driver may start after its workers."""
        if self._pool.refused():
            gpu_check.look(self._pool)

    def release_gpus(self) -> None:
        """Release the quarantined GPUs that no process uses any more."""
        for gpu in self._pool.quarantined():
            if gpus.is_unused(gpu):
                _log.info("GPU is clean again", gpu=gpu)
                self._pool.release(gpu)
