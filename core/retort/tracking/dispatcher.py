"""Dispatch recorded events to the tracker processes of one attempt."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from retort.constants import HEATMAPS
from retort.protocol.events import (
    AnyEvent,
    ArtifactEvent,
    FailedEvent,
    FinishedEvent,
    MetricEvent,
    RunFailure,
    StoppedEvent,
)
from retort.spec.outcome import ExtraOutcome
from retort.spec.result import Result
from retort.tracking.session import Kind, TrackerConfig

_LARGEST = 10_000
"""Lines that may wait for a tracker."""


_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
"""The libraries tell the tracker, and nobody else."""


class TrackerDisabled(Exception):
    """The tracker is disabled, for the reason in the message."""


_DIED = "its process died"


class TrackerProcess:
    """Process of one tracker; errors disable the tracker."""

    def __init__(self, config: str, *, command: Sequence[str], folder: Path, timeout_s: float) -> None:
        self._command = tuple(command)
        self._folder = folder
        self._timeout_s = timeout_s
        self._lines: queue.Queue[str | None] = queue.Queue(_LARGEST)
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()
        self.trouble: str | None = None
        """Why it was switched off."""
        self._lines.put(config)
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether the tracker process is at work."""
        return self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        """Wait until the process has ended, at most *timeout_s* seconds."""
        self._thread.join(timeout_s)

    def send(self, line: str | None) -> None:
        """Queue a line for the tracker; None ends the input.

        A full queue disables the tracker.
        """
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.close("it does not keep up with the run")

    def close(self, reason: str | None = None) -> None:
        """Kill the tracker process; it is disabled for this *reason*.

        A process that has ended already keeps its outcome.
        """
        with self._lock:
            if self.busy and not self._closed:
                self.trouble = self.trouble or reason
            self._closed = True
            if self._process is not None:
                _kill(self._process)
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)  # the thread may wait for a line

    def _work(self) -> None:
        try:
            with self._started() as process:
                try:
                    while (line := self._lines.get()) is not None:
                        self._ask(process, line)
                        self._lines.task_done()
                    assert process.stdin
                    process.stdin.close()
                    process.wait(self._timeout_s)
                finally:
                    _kill(process)
        except Exception as error:  # noqa: BLE001 - a tracker may answer anything, and a run needs none
            with self._lock:
                reason = _DIED if isinstance(error, BrokenPipeError) else str(error) or type(error).__name__
                self.trouble = self.trouble if self._closed else reason
                self._closed = True

    def _started(self) -> subprocess.Popen[bytes]:
        """Start the process, in a session of its own: what is pressed in a terminal is not meant for it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._lock, (self._folder / "tracking.log").open("ab") as log:
            if self._closed:
                raise TrackerDisabled
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, **_QUIET},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )
        return self._process

    def _ask(self, process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin
        assert process.stdout
        waiting = memoryview(line.encode() + b"\n")
        while waiting:
            waiting = waiting[process.stdin.write(waiting) :]
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        if not poll.poll(self._timeout_s * 1000):
            raise TrackerDisabled(f"it took longer than {self._timeout_s:g} s over one thing")
        answer = process.stdout.readline()
        if not answer:
            raise TrackerDisabled(_DIED)
        if error := json.loads(answer)["error"]:
            raise TrackerDisabled(error)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the process and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


COMMAND = (sys.executable, "-m", "retort.tracking")
"""The program of one tracker."""
HANDED_OVER = frozenset({"report.html", "report.json", "student.pt"})
"""Artifacts that a tracker gets where the spec says so."""
TITLES: dict[Kind, str] = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "mlflow": "MLflow"}


def outcome_of(name: str, trouble: str | None) -> ExtraOutcome:
    """Return the outcome of the tracker *name*, switched off for *trouble* if any."""
    if trouble is None:
        return ExtraOutcome(name=name, status="done")
    return ExtraOutcome(name=name, status="failed", code="tracker_failed", reason=trouble, hint=_LOG)


_LOG = "tracking.log in the folder of the run"
LastSteps = Mapping[tuple[str, str], int]
"""By role and metric, the last step that earlier attempts have measured."""


class TrackerDispatcher:
    """Dispatcher of events to all trackers of one attempt, each independently."""

    def __init__(
        self,
        openings: Iterable[TrackerConfig],
        workdir: Path,
        *,
        reached: LastSteps,
        timeout_s: float,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._workdir = workdir.resolve()
        self._reached = dict(reached)
        self._timeout_s = timeout_s
        self._deadline: float | None = None
        self._processes: dict[Kind, TrackerProcess] = {}
        self._with_files: set[Kind] = set()
        self._told: set[Kind] = set()
        for config in openings:
            about = config.spec["tracking"][config.kind]
            if isinstance(about, dict) and about["artifacts"]:
                self._with_files.add(config.kind)
            self._processes[config.kind] = TrackerProcess(
                config.model_dump_json(), command=command, folder=self._workdir, timeout_s=timeout_s
            )

    def on_event(self, event: AnyEvent) -> None:
        """Pass an event to the trackers, without steps measured before.

        Whatever fails in this only switches them off.
        """
        try:
            self._pass_on(event)
        except Exception as error:  # noqa: BLE001 - a run needs no tracker
            self._switch_off(error)

    def _pass_on(self, event: AnyEvent) -> None:
        if isinstance(event, MetricEvent):
            values = {name: value for name, value in event.values.items() if self._is_news(event, name)}
            if values:
                self._tell(event.model_copy(update={"values": values}), self._processes)
        elif isinstance(event, ArtifactEvent) and (kinds := self._takers(event)) is not None:
            path = (self._workdir / event.path).resolve()
            if path.is_relative_to(self._workdir) and path.is_file():
                self._tell(event.model_copy(update={"path": str(path)}), kinds)

    def _takers(self, event: ArtifactEvent) -> set[Kind] | None:
        """Return the trackers that are given the artifact; None where it is for none.

        TensorBoard lies beside the artifacts. To the others the maps go as files do: they show the owner's images.
        """
        if not event.name.startswith(HEATMAPS):
            return self._with_files if event.name in HANDED_OVER else None
        mapped = event.metadata["epoch"]
        shown = any(role == event.role and step >= mapped for (role, _), step in self._reached.items())
        return {kind for kind in self._processes if kind == "tensorboard" or (kind in self._with_files and not shown)}

    def _switch_off(self, error: Exception) -> None:
        for process in self._processes.values():
            process.close(f"{type(error).__name__}: {error}")

    def _is_news(self, event: MetricEvent, name: str) -> bool:
        return event.step > self._reached.get((event.role.value, name), -1)

    def _tell(self, event: AnyEvent, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            if self._processes[kind].trouble is None:
                self._processes[kind].send(event.model_dump_json())

    def end(self, result: Result | None, failure: RunFailure | None) -> None:
        """Report the attempt's outcome; the trackers then have limited time."""
        if self._deadline is not None:
            return
        common = {"n": 1, "at": time.time()}
        event: AnyEvent = StoppedEvent(**common)
        if result is not None:
            event = FinishedEvent(**common, result=result)
        elif failure is not None:
            event = FailedEvent(**common, failure=failure)
        try:
            self._tell(event, self._processes)
        except Exception as error:  # noqa: BLE001 - a run needs no tracker
            self._switch_off(error)
        for process in self._processes.values():
            process.send(None)
        self._deadline = time.monotonic() + self._timeout_s

    def busy(self) -> bool:
        """Return True if a tracker is at work within its time limit.

        A tracker whose time is up is disabled.
        """
        working = [process for process in self._processes.values() if process.busy]
        if working and self._deadline is not None and time.monotonic() >= self._deadline:
            for process in working:
                process.close(f"it did not end within {self._timeout_s:g} s")
            return False
        return bool(working)

    def wait(self, timeout_s: float) -> None:
        """Wait until a busy tracker has ended, at most *timeout_s* seconds."""
        for process in self._processes.values():
            if process.busy:
                process.wait(timeout_s)
                return

    def troubles(self) -> list[str]:
        """Return one new sentence for each tracker that was disabled."""
        found = [kind for kind, process in self._processes.items() if process.trouble and kind not in self._told]
        self._told.update(found)
        return [f"{TITLES[kind]} is switched off for this attempt: {self._processes[kind].trouble}" for kind in found]

    def outcomes(self) -> tuple[ExtraOutcome, ...]:
        """Return what became of each tracker, once they have ended."""
        return tuple(outcome_of(kind, process.trouble) for kind, process in self._processes.items())

    def close(self) -> None:
        """Kill the tracker processes that still run."""
        for process in self._processes.values():
            process.close()
