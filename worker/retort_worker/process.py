"""Start a run's process, end its group, classify its exit."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from retort.confinement import UNCONFINED, Facts, Policy, confined
from retort.errors import printable
from retort.foreign import translate
from retort.protocol.environment import allowed, caches_of, run_environment
from retort.protocol.events import AnyEvent, AwaitingReviewEvent, FailedEvent, FinishedEvent, RunFailure, StoppedEvent
from retort.spec.result import Result

_GROUP = "run.group"

_EXCERPT_LINES = 20
_EXCERPT_BYTES = 16_384
_LINE_CHARACTERS = 400

_OUT_OF_MEMORY = "the machine has probably run out of memory: lower training.batch or training.imgsz, or give it more"
_SHARED_MEMORY = "shared memory has probably run out: give the worker more of /dev/shm"

_alive: dict[int, RunProcess] = {}


def kill_leftover(workdir: Path) -> None:
    """SIGKILL the run of an earlier attempt that holds the working folder.

    The lease of the run is lost, but its worker may be asleep, so that nothing else ends it. The run is left alone
    where its number means nothing to us: on another host, or in another container. The caller must have found
    ``run.lock`` held, so that the number is in use.
    """
    try:
        group, where = (workdir / _GROUP).read_text().split()
    except (OSError, ValueError):
        return
    if where == _where():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(int(group), signal.SIGKILL)


def _where() -> str:
    """Where process numbers mean the same."""
    try:
        return f"{socket.gethostname()}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def kill_all() -> None:
    """SIGKILL the group of every run of this worker."""
    for process in tuple(_alive.values()):
        process.send(signal.SIGKILL)


def own_environment() -> dict[str, str]:
    """Return the variables of the worker's environment that its children may see."""
    return allowed(os.environ)


def worker_environment(folder: Path) -> tuple[dict[str, str], Path | None]:
    """Return the environment of a process beside the runs, as ``run_environment`` does."""
    return run_environment(os.environ, folder)


class RunProcess:
    """A run with all processes that the run starts.

    The number of its process group is that of its first process.
    """

    def __init__(self, popen: subprocess.Popen[bytes], scratch: Path | None, told: int) -> None:
        self._popen = popen
        self._told = os.fdopen(told, "rb", buffering=0)
        self._facts = b""
        self._scratch = scratch
        self._reaped = False
        self._exit = _exit_of(popen.pid)
        # Reentrant: a signal handler may kill while the same thread is closing.
        self._lock = threading.RLock()
        _alive[popen.pid] = self

    @classmethod
    def start(
        cls, command: Sequence[str], workdir: Path, environment: Mapping[str, str], *,
        compiled: Path | None = None, policy: Policy | None = None,
    ) -> Self:  # fmt: skip
        """Start ``command spec.json workdir``; its output goes to ``workdir/run.log``.

        Its standard input is a pipe that nobody writes to: it ends when the worker dies, however that happens, and the
        run takes this as its order to die. In the folder *compiled* runs find what earlier ones compiled. *policy*
        names what it may read besides its working folder.

        Raises:
            OSError: the command cannot be started.

        """
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        env, scratch = run_environment(os.environ, workdir, compiled=compiled)
        env |= environment
        wanted = policy or Policy(network="loopback")
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        try:
            with (workdir / "run.log").open("ab") as log:
                popen = subprocess.Popen(
                    confined(
                        [*command, str(workdir / "spec.json"), str(workdir)],
                        replace(wanted, write=(*wanted.write, str(workdir), *caches_of(env)), tmp=env["TMPDIR"],
                                facts=theirs),
                    ),
                    cwd=workdir, env=env, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                    start_new_session=True, pass_fds=(theirs,),
                )  # fmt: skip
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        (workdir / _GROUP).write_text(f"{popen.pid} {_where()}\n")
        return cls(popen, scratch, ours)

    def facts(self) -> Facts | None:
        """Return how the run is confined, as soon as that is known."""
        with contextlib.suppress(BlockingIOError, ValueError):
            self._facts += self._told.read(1 << 16) or b""
        return Facts.decode(self._facts) if self._facts.endswith(b"\n") else None

    @property
    def pid(self) -> int:
        """Number of the first process, and of the group."""
        return self._popen.pid

    def ended(self) -> bool:
        """Return True if the first process has exited.

        Where the system can, this leaves it a zombie until ``close``, so that the group's number cannot be given to a
        stranger while we may still signal it.
        """
        if self._reaped or self._popen.returncode is not None:
            return True
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self._popen.poll() is not None

    def wait(self, timeout_s: float) -> None:
        """Wait until the first process has exited, at most *timeout_s* seconds."""
        if self._exit is None:
            time.sleep(timeout_s)
        else:
            poll = select.poll()
            poll.register(self._exit, select.POLLIN)
            poll.poll(timeout_s * 1000)

    def terminate(self) -> None:
        """Ask the first process to stop.

        It alone: data loaders that died of the same signal would turn an orderly stop into a crash.
        """
        with self._lock:
            if not self._reaped:
                self._popen.terminate()

    def dump_stacks(self) -> None:
        """Make the first process log the stacks of its threads."""
        with self._lock:
            if not self._reaped:
                self._popen.send_signal(signal.SIGQUIT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, if the group still exists."""
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._reaped:
                os.killpg(self.pid, number)

    def close(self, timeout_s: float = 2.0) -> int:
        """SIGKILL the rest of the group; return the first process's exit code.

        The call waits for the process. The code of a process that died of a signal is the signal's number, negative.
        """
        with self._lock:
            self.send(signal.SIGKILL)
            code = self._popen.wait()
            self._reaped = True
            if self._exit is not None:
                os.close(self._exit)
                self._exit = None
        _alive.pop(self.pid, None)
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        self._told.close()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and _group_lives(self.pid):
            time.sleep(0.01)  # children of the first process are not ours, so there is nothing to wait on
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        return code


def _exit_of(pid: int) -> int | None:
    """Open what is readable once the process has exited; None where the system has no such thing, or refuses it."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _group_lives(group: int) -> bool:
    """Return True if a process of the group still runs; one that only waits to be reaped by its new parent does not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    stats = [_stat(path) for path in Path("/proc").glob("[0-9]*/stat")]
    # Fields after the name: state, parent, group. Without /proc (macOS) the signal's answer has to do.
    return not stats or any(fields[0] not in "ZX" and int(fields[2]) == group for fields in stats if fields)


def _stat(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Outcome of a run: result, failure, or neither when stopped on request."""

    result: Result | None = None
    failure: RunFailure | None = None
    exit_code: int | None = None
    awaits_review: bool = False
    """It goes on once people have looked at what it has published for them."""


def classify_exit(last: AnyEvent | None, exit_code: int, *, told_to_stop: bool, excerpt: str) -> RunOutcome:
    """Return the run's outcome from its last event and exit code.

    Whatever a run says after a stop request, short of a result, may come from being stopped, and is no failure.
    """
    if isinstance(last, FinishedEvent):
        return RunOutcome(result=last.result, exit_code=exit_code)
    if isinstance(last, AwaitingReviewEvent):
        return RunOutcome(exit_code=exit_code, awaits_review=True)
    if told_to_stop:
        return RunOutcome(exit_code=exit_code)
    if isinstance(last, FailedEvent):
        failure = last.failure
        if failure.log_excerpt is None:
            failure = failure.model_copy(update={"log_excerpt": excerpt})
        return RunOutcome(failure=failure, exit_code=exit_code)
    if isinstance(last, StoppedEvent):
        message = "the run was stopped from outside of Retort"
        return RunOutcome(failure=RunFailure(code="stopped", message=message, retryable=True), exit_code=exit_code)
    return RunOutcome(failure=_death(exit_code, excerpt), exit_code=exit_code)


def _death(exit_code: int, excerpt: str) -> RunFailure:
    if exit_code == UNCONFINED:
        message = "the run was not started, because this worker cannot confine it as RETORT_CONFINEMENT=strict demands"
        return RunFailure(code="unconfined", message=message, retryable=True, log_excerpt=excerpt)
    if exit_code >= 0:
        message = f"the run ended with exit code {exit_code} and without a last word"
        return RunFailure(code="crashed", message=message, retryable=True, log_excerpt=excerpt)
    number = -exit_code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    code = "killed" if number == signal.SIGKILL else "crashed"
    hint = _OUT_OF_MEMORY if number == signal.SIGKILL else _SHARED_MEMORY if number == signal.SIGBUS else None
    return RunFailure(code=code, message=f"the run was ended by {name}", hint=hint, retryable=True, log_excerpt=excerpt)


def explain(error: BaseException) -> RunFailure:
    """Return the failure for an error of the worker during an attempt.

    The owner of the job reads it.
    """
    told = translate(error, what="supervising the run")
    if told.code == "internal" and isinstance(error, OSError):
        return RunFailure(code="unavailable", message=f"the worker's machine failed: {error}", retryable=True)
    return RunFailure(code=told.code, message=told.message, hint=told.hint, retryable=told.retryable)


def tail(log: Path, start: int) -> str:
    """Return the last lines of *log* from byte *start*, safe to show.

    What a run prints is not trusted: control characters are escaped and long lines cut.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - _EXCERPT_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()][-_EXCERPT_LINES:]
    return "\n".join(printable(line[:_LINE_CHARACTERS], keep="\t") for line in lines)
