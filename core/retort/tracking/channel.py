"""The supervising side of one tracker: its process, and the thread that waits for its answers."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

_LARGEST = 10_000
"""Lines that may wait for a tracker."""


_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
"""The libraries tell the tracker, and nobody else."""


class Off(Exception):
    """The tracker can be told nothing more, for the reason that its text says."""


class Channel:
    """Tells one tracker one line after the other; whatever goes wrong switches it off, and nobody waits for it."""

    def __init__(self, opening: str, *, command: Sequence[str], folder: Path, timeout_s: float) -> None:
        self._command = tuple(command)
        self._folder = folder
        self._timeout_s = timeout_s
        self._lines: queue.Queue[str | None] = queue.Queue(_LARGEST)
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()
        self.trouble: str | None = None
        """Why it was switched off."""
        self._lines.put(opening)
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether it still works."""
        return self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        """Return when it has ended, or after *timeout_s*."""
        self._thread.join(timeout_s)

    def tell(self, line: str | None) -> None:
        """Leave a line for it; None is the end. A line too many switches it off."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.close("it does not keep up with the run")

    def close(self, reason: str | None = None) -> None:
        """Kill it where it still works, for this *reason*."""
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
        except (Off, OSError, ValueError, subprocess.TimeoutExpired) as error:
            with self._lock:
                self.trouble = self.trouble if self._closed else str(error)
                self._closed = True

    def _started(self) -> subprocess.Popen[bytes]:
        """Start the process, in a session of its own: what is pressed in a terminal is not meant for it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._lock, (self._folder / "tracking.log").open("ab") as log:
            if self._closed:
                raise Off
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
            raise Off(f"it took longer than {self._timeout_s:g} s over one thing")
        answer = process.stdout.readline()
        if not answer:
            raise Off("its process died")
        if error := json.loads(answer)["error"]:
            raise Off(error)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the process and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
