"""The supervision of one run, from its claim to its end."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import replace
from typing import IO

import structlog
from retort.confinement import Facts, Policy
from retort.data import ceilings, known_datasets
from retort.data.confinement import run_policy
from retort.data.inputs import Adjustments
from retort.data.prepare import prepare
from retort.db import DatabaseUnavailable
from retort.errors import RetortError
from retort.protocol.events import (
    AnyEvent,
    AwaitingReviewEvent,
    FailedEvent,
    FinishedEvent,
    LogEvent,
    RunFailure,
    StoppedEvent,
)
from retort.protocol.workdir import COMPILED, LOG, TEACHER_CACHES
from retort.spec import parse_spec, weight_names
from retort.spec.outcome import ExtraOutcome
from retort.spec.result import JobResult
from retort.states import TERMINAL, JobState

from retort_worker import gpu_check, workdir
from retort_worker.context import ClaimedJob, WorkerContext
from retort_worker.process import RunOutcome, RunProcess, classify_exit, explain, kill_leftover, tail
from retort_worker.recorder import LeaseLost, Recorder, finish_attempt
from retort_worker.trackers import Trackers
from retort_worker.uploader import ArtifactUploader
from retort_worker.watchdog import Fence, Watchdog

_log = structlog.get_logger()
_TICK_S = 0.1
_OF_GPU = frozenset({"no_gpu", "cuda_error"})
"""What a run says where its GPU may be to blame."""
_STACKS_S = 1.0
"""How long a stuck run may take to print its stacks."""


class RunSupervisor:
    """Supervisor of one attempt under one lease, from preparation to outcome."""

    def __init__(self, context: WorkerContext, claimed_job: ClaimedJob) -> None:
        self._context = context
        self._settings = context.settings
        self._claim = claim = claimed_job.claim
        self._lease = claim.lease
        self._device = claimed_job.device
        self._workdir = context.folder / claim.lease.job_id
        self.unusable: Mapping[str, str] = {}
        """GPUs of the run that cannot be used, with the reasons; known once it has ended."""
        self._doubts_gpu = False
        self._dataset: IO[bytes] | None = None
        """Holds the job's registered dataset in the cache."""
        self._process: RunProcess | None = None
        self._policy: Policy | None = None
        self._confinement_told = False
        self._final_event: AnyEvent | None = None
        self._fence = Fence(self._settings.lease_s, claimed_job.started, self._kill)
        self._watchdog = Watchdog(
            self._settings,
            self._workdir,
            started=claimed_job.started,
            ran_s=claim.ran_s,
            max_runtime_s=ceilings.runtime_s(claim.spec["resources"].get("max_runtime_s"), context.settings),
        )
        self._uploader = ArtifactUploader(context.store, self._workdir, self._lease.job_id, self._lease.attempt)
        self._trackers = Trackers(context, claim, self._workdir)
        self._recorder = Recorder(
            context.database,
            self._lease,
            self._workdir,
            lease_s=self._settings.lease_s,
            heartbeat_s=self._settings.heartbeat_s,
            fence=self._fence,
            on_event=self._on_event,
        )
        self._log = _log.bind(job=self._lease.job_id, attempt=self._lease.attempt)

    def run(self) -> JobState | None:
        """Supervise the attempt to its end; return the job's new state.

        None means that the lease was lost and nothing was written.
        """
        self._log.info("run begins", device=self._device.name)
        state = None
        try:
            with self._fence:
                state = self._finish(self._attempt())
            if state is JobState.SUCCEEDED:
                self._uploader.keep_last()
        except LeaseLost:
            self._log.warning("lease lost; the run was killed and nothing more is written")
        finally:
            self._end_process()
            self._uploader.close()
            self._trackers.close()
            if self._dataset is not None:
                self._dataset.close()
        self._log.info("run ended", state=state and str(state))
        if state in TERMINAL:
            shutil.rmtree(self._workdir, ignore_errors=True)
        return state

    def _attempt(self) -> RunOutcome:
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
        self._recorder.renew_only = True
        return RunOutcome(failure=failure)

    def _prepare(self) -> RunOutcome | None:
        """Bring the working folder in order; an outcome comes back when that already ends the attempt."""
        self._workdir.mkdir(parents=True, exist_ok=True)
        if not workdir.is_free(self._workdir):
            kill_leftover(self._workdir)
        deadline = time.monotonic() + self._settings.lease_s
        if not self._wait(lambda: workdir.is_free(self._workdir) or time.monotonic() > deadline):
            return RunOutcome(failure=self._watchdog.timed_out())
        if not workdir.is_free(self._workdir):
            message = "an earlier run of this job still holds its working folder"
            return RunOutcome(failure=RunFailure(code="folder_busy", message=message, retryable=True))
        self._trackers.look_back()
        self._retry_db(self._recorder.catch_up)
        self._final_event, self._doubts_gpu = None, False  # what earlier runs said is not this one's
        if self._lease.attempt > 1 or self._claim.parent_id is not None:  # else nobody can have decided anything
            self._retry_db(lambda: workdir.write_decisions(self._workdir, self._context.database, self._lease.job_id))
        dataset = self._claim.spec["data"].get("dataset")
        if dataset is not None and (told := known_datasets.announcement(dataset, self._settings.dataset_dir)):
            self._recorder.log(told, "info")
        preparing = _in_background(self._prepare_inputs)
        if not self._wait(preparing.done, lambda timeout_s: futures.wait([preparing], timeout_s)):
            return RunOutcome(failure=self._watchdog.timed_out())
        preparing.result()
        return None

    def _prepare_inputs(self) -> None:
        claim, lease = self._claim, self._lease
        if claim.recovery is not None:
            workdir.restore(self._workdir, claim.recovery, self._context.store, lease.job_id)
        spec, model_dir = parse_spec(dict(claim.spec)), self._settings.model_dir
        assert model_dir is not None
        ranks = claim.spec["resources"].get("gpus", 1)
        ceilings.check(spec, self._settings)  # trials of sweeps, and what was accepted under other settings
        ceilings.check_ranks(ranks, self._device.index, self._settings)
        if spec.data.dataset is not None:
            context = self._context
            self._dataset = context.datasets.hold(spec.data.dataset, context.database, context.store)
        workdir.bring(weight_names(spec).values(), self._context.database, self._context.store, model_dir)
        inputs = prepare(
            spec,
            self._settings,
            self._workdir,
            attempt=lease.attempt,
            device=self._device.index,
            device_by="worker",
            cpu_allowed=self._device.cpu_allowed,
            adjustments=Adjustments.model_validate(claim.adjustments or {}),
            keep_last=self._settings.keep_last_state_s > 0,
            teacher_caches=self._context.folder / TEACHER_CACHES / claim.project,
        )
        ceilings.check_inputs(inputs, self._settings)
        self._policy = run_policy(
            self._workdir,
            self._settings,
            gpus=len(self._device.gpus),
            ranks=ranks,
            without=self._context.confinement.without,
        )

    def _retry_db(self, work: Callable[[], None]) -> None:
        """Do what needs the database, and beat until it is there."""
        while True:
            try:
                work()
            except DatabaseUnavailable:
                self._heartbeat()
            else:
                return

    def _train(self) -> RunOutcome:
        log = self._workdir / LOG
        start = log.stat().st_size if log.exists() else 0
        self._trackers.begin()
        self._watchdog.begin()
        self._process = RunProcess.start(
            self._context.command,
            self._workdir,
            self._device.environment,
            compiled=self._context.folder / COMPILED / self._claim.project,  # code, which no other project may write
            policy=self._policy,
        )
        if self._settings.confinement == "off":
            self._confinement_told = self._recorder.note_confinement(Facts("off"))
        told_to_stop, failure = self._watch(self._process)
        code = self._process.close()
        while self._recorder.behind():
            self._heartbeat()
        excerpt = tail(log, start)
        if failure is not None and not isinstance(self._final_event, FinishedEvent | AwaitingReviewEvent):
            return RunOutcome(failure=failure.model_copy(update={"log_excerpt": excerpt}), exit_code=code)
        return self._elsewhere(
            classify_exit(self._final_event, code, told_to_stop=told_to_stop, excerpt=excerpt)
        )  # fmt: skip

    def _elsewhere(self, outcome: RunOutcome) -> RunOutcome:
        """Look at the GPUs of a run that doubts them; hand its job back where it found none."""
        if not (self._doubts_gpu and self._device.gpus):
            return outcome
        asking = _in_background(self._ask)
        while not asking.done():
            self._heartbeat(lambda timeout_s: futures.wait([asking], timeout_s))
        asking.result()
        if outcome.failure is None or outcome.failure.code != "no_gpu" or not self.unusable:
            return outcome
        told = "; ".join(f"GPU {gpu}: {why}" for gpu, why in self.unusable.items())
        self._recorder.log(f"handed back, because this worker's GPU cannot be used: {told}", "warning")
        return RunOutcome(exit_code=outcome.exit_code)

    def _ask(self) -> None:
        self.unusable = gpu_check.unusable(self._device.gpus)

    def _watch(self, process: RunProcess) -> tuple[bool, RunFailure | None]:
        """Beat until the run has exited; return whether it was told to stop, and the limit that it came to."""
        told_at: float | None = None
        failure: RunFailure | None = None
        while not process.ended():
            self._heartbeat(process.wait)
            self._tell_confinement(process)
            if told_at is None:
                failure = self._limit(process)
                if failure is not None or self._should_stop():
                    told_at = time.monotonic()
                    process.terminate()
            elif time.monotonic() - told_at >= self._settings.grace_s:
                process.send(signal.SIGKILL)
        self._tell_confinement(process)
        return told_at is not None, failure

    def _tell_confinement(self, process: RunProcess) -> None:
        """Record once how the run is confined."""
        if self._confinement_told or (facts := process.facts()) is None:
            return
        self._confinement_told = self._recorder.note_confinement(facts)

    def _limit(self, process: RunProcess) -> RunFailure | None:
        """Return the failure of a run that must not go on; one that is stuck prints its stacks first."""
        failure = self._watchdog.timed_out()
        if failure is None and (failure := self._watchdog.stalled()) is not None:
            process.dump_stacks()
            deadline = time.monotonic() + _STACKS_S
            while time.monotonic() < deadline and not process.ended():
                self._heartbeat(process.wait)
        return failure

    def _finish(self, outcome: RunOutcome) -> JobState:
        self._uploader.add_log()
        while self._uploader.is_busy():
            self._heartbeat(self._uploader.wait)
        whole = outcome.result is not None or outcome.awaits_review
        if whole and (failure := self._uploader.failure()) is not None:
            outcome = RunOutcome(failure=failure, exit_code=outcome.exit_code)
        self._trackers.end(outcome)
        while self._trackers.busy():
            self._heartbeat(self._trackers.wait)
        self._trackers.report(self._recorder)
        outcome = _with_extras(outcome, (*self._uploader.lost(), *self._trackers.lost()))
        uploaded, stored = self._uploader.pending(), self._uploader.uploaded()
        while True:
            try:
                state = finish_attempt(self._context.database, self._lease, outcome, uploaded=uploaded, stored=stored)
            except DatabaseUnavailable:
                self._heartbeat()
                continue
            if state is None:
                raise LeaseLost
            return state

    def _wait(self, done: Callable[[], bool], rest: Callable[[float], object] = time.sleep) -> bool:
        """Beat until *done*; False when the attempt should stop first, or the job's time is up."""
        while not done():
            self._heartbeat(rest)
            if self._should_stop() or self._watchdog.timed_out() is not None:
                return False
        return True

    def _heartbeat(self, rest: Callable[[float], object] = time.sleep) -> None:
        """Beat, or *rest* for a moment; whoever waits for something gives a rest that it ends."""
        uploaded = self._uploader.pending()
        if self._recorder.tick(uploaded):
            self._uploader.mark_recorded(uploaded)
            if self._recorder.finish_early:
                workdir.finish_early(self._workdir)
            self._trackers.report(self._recorder)
        else:
            rest(_TICK_S)

    def _should_stop(self) -> bool:
        return self._context.draining or self._recorder.desired_state in {JobState.CANCELLING, JobState.PAUSING}

    def _on_event(self, event: AnyEvent) -> None:
        self._uploader.on_event(event)
        self._trackers.on_event(event)
        if isinstance(event, FinishedEvent | FailedEvent | StoppedEvent | AwaitingReviewEvent):
            self._final_event = event
        if isinstance(event, FailedEvent):
            self._doubts_gpu |= event.failure.code in _OF_GPU
        elif isinstance(event, LogEvent):
            self._doubts_gpu |= event.data.get("code") in _OF_GPU

    def _kill(self) -> None:
        if self._process is not None:
            self._process.send(signal.SIGKILL)

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.close()


def _with_extras(outcome: RunOutcome, lost: tuple[ExtraOutcome, ...]) -> RunOutcome:
    """Return the outcome whose result says too what came of storing and tracking it."""
    if not isinstance(outcome.result, JobResult) or not lost:
        return outcome
    told = outcome.result.model_copy(update={"extras": (*outcome.result.extras, *lost)})
    return replace(outcome, result=told)


def _in_background(work: Callable[[], None]) -> futures.Future[None]:
    """Run *work* in a thread that does not keep the process alive."""
    future: futures.Future[None] = futures.Future()

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the future is read
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=body, name="prepare", daemon=True).start()
    return future
