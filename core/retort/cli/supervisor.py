"""Keep the parts of the service running: start them, start them again when they die, drain them at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from retort.errors import WorldError

QUICK_S = 20.0
"""A part that dies sooner than this after its start has died quickly."""
MAX_QUICK_DEATHS = 5
"""So many quick deaths in a row, and the service gives up."""
LONGEST_PAUSE_S = 30.0
POLL_S = 0.1


@dataclass(slots=True)
class Part:
    """One supervised module and its process."""

    module: str
    env: Mapping[str, str]
    arguments: Sequence[str] = ()
    backoff_s: float = 0.5
    """Wait before a start anew; doubled with every quick death."""
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    quick_deaths: int = 0

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process in a session of its own: a Ctrl-C in the terminal reaches the supervisor only."""
        self.close()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "retort.cli.child", self.module, *self.arguments],
            env=dict(self.env),
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            start_new_session=True,
        )
        self.started_at = time.monotonic()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, or with SIGKILL to its whole group."""
        if self.process is None or self.process.poll() is not None:
            return
        if number == signal.SIGKILL:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def close(self) -> None:
        """Close our end of the pipe by which the process knows that we live."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def note_death(self) -> float:
        """Record that the process has died; return the seconds to wait before its next start.

        Raises:
            WorldError: it has died quickly too often.

        """
        assert self.process is not None
        quick = time.monotonic() - self.started_at < QUICK_S
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        if self.quick_deaths >= MAX_QUICK_DEATHS:
            raise WorldError(
                f"{self.module} died {self.quick_deaths} times in a row, last with exit code {self.process.returncode}",
                hint="its messages above say why",
                code="part_keeps_dying",
            )
        pause_s: float = min(self.backoff_s * 2**self.quick_deaths, LONGEST_PAUSE_S)
        self.restart_at = time.monotonic() + pause_s
        return pause_s


@dataclass(slots=True)
class Supervisor:
    """Runs parts until a signal asks to stop: the first drains, the second kills."""

    parts: Sequence[Part]
    grace_s: float
    """How long draining may take."""
    say: Callable[[str], None]
    signals: int = field(default=0, init=False)

    def run(self, *, ready: Callable[[], bool], announce: Callable[[], None], patience_s: float = 120.0) -> None:
        """Run until asked to stop; *announce* once, when *ready* first says so.

        Raises:
            WorldError: a part keeps dying, or the service has not become ready within *patience_s*.

        """
        previous = {number: signal.signal(number, self._asked) for number in STOPPING}
        try:
            self._start()
            self._until(ready, patience_s)
            if not self.signals:
                announce()
            while not self.signals:
                self._look_after()
                time.sleep(POLL_S)
        finally:
            self._drain()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1

    def _start(self) -> None:
        for part in self.parts:
            part.start()

    def _until(self, ready: Callable[[], bool], patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while not self.signals and not ready():
            if time.monotonic() > deadline:
                raise WorldError(f"the service is not ready after {patience_s:.0f} s", code="not_ready")
            self._look_after()
            time.sleep(POLL_S)

    def _look_after(self) -> None:
        now = time.monotonic()
        for part in self.parts:
            if part.running:
                continue
            if part.restart_at < part.started_at:
                pause_s = part.note_death()
                code = part.process.returncode if part.process else None
                self.say(f"{part.module} died with exit code {code}; starting it again in {pause_s:.1f} s")
            elif part.restart_at <= now:
                part.start()

    def _drain(self) -> None:
        """Ask all parts to end; kill what has not after the grace period, or at once when asked a second time."""
        asked = self.signals
        for part in self.parts:
            part.signal(signal.SIGTERM)
        deadline = time.monotonic() + self.grace_s
        while any(part.running for part in self.parts):
            if time.monotonic() > deadline or self.signals > max(asked, 1):
                for part in self.parts:
                    part.signal(signal.SIGKILL)
            time.sleep(POLL_S)
        for part in self.parts:
            part.close()


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
