"""``retort up``: the whole service under one supervising process."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retort.access import KEY_FILE, read_key_file
from retort.cli import pages
from retort.cli.options import AsJson, emit, note, say
from retort.confinement import hide_environment
from retort.errors import TransientError, UserError
from retort.files import make_private
from retort.redaction import redact

if TYPE_CHECKING:
    from retort.settings import Settings

DRAIN_MARGIN_S = 20.0
"""Beyond the grace that a run has: for the worker to publish what the run has left."""


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8000")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder for everything that the service keeps.")] = None,
    run_command: Annotated[list[str] | None, typer.Option(hidden=True, help="The program that trains.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the service (API, worker and reaper) until Ctrl-C, which drains; a second Ctrl-C kills."""
    from retort.settings import Settings

    hide_environment()
    given = {"host": host, "port": port, "home": home}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    chosen = {"RETORT_HOME": settings.home, "RETORT_HOST": settings.host, "RETORT_PORT": settings.port}
    env = {**os.environ, **{name: str(value) for name, value in chosen.items()}}
    make_private(settings.home)
    reachable = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    url = f"http://[{reachable}]:{settings.port}" if ":" in reachable else f"http://{reachable}:{settings.port}"

    from retort.client.client import Client

    key_file = settings.home / KEY_FILE

    def announce() -> None:
        found = _asked(url, key_file)[1]
        if (broker := found.get("checks", {}).get("broker", {})).get("status") == "failed":
            note(f"warning: {broker['detail']}; no job is lost: each starts by polling, within {settings.poll_s:g} s")
        status = found.get("status", "ok")
        ready = {
            "url": url,
            "home": str(settings.home),
            "pid": os.getpid(),
            "status": status,
            "key_file": str(key_file),
            "browser": _browser_link(url, key_file),
        }
        text = f"Retort is ready at {url} (home {settings.home}). Ctrl-C drains and stops."
        emit(ready) if as_json else say(text)
        if not as_json and ready["browser"]:
            say(f"In a browser, once, within ten minutes: {ready['browser']}")
            with Client(url) as client:
                pages.tell_tunnel(client)

    with _alone(settings.home):
        _check_port(settings.host, settings.port)
        _migrate(env)
        _ensure_key(settings)
        arguments = ["--run-command", *run_command] if run_command else []
        parts = [ManagedProcess("retort_api", env), ManagedProcess("retort_worker", env, arguments)]
        supervisor = ProcessSupervisor(parts, settings.grace_s + DRAIN_MARGIN_S, note)
        supervisor.run(
            ready=lambda: _readiness(url) is not None, announce=announce,
            late=lambda: why_not_ready(*_asked(url, key_file), url, settings),
        )  # fmt: skip
        note("stopped")


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the home folder's lock: two supervisors of one home would fight over its jobs."""
    with (home / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another retort up runs on {home}", hint="stop it, or name another folder: --home", code="home_in_use"
            ) from None
        yield


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port}: {error.strerror}", hint="name another: --port", code="port_in_use"
            ) from error


def _migrate(env: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-m", "retort.db", "upgrade"], env=env, check=False, stdout=sys.stderr)
    if done.returncode:
        raise TransientError("the database could not be migrated", hint="its message above says why", code="migration")


def _browser_link(url: str, key_file: Path) -> str | None:
    """Return a link that logs a browser in; None where the service gives none."""
    from retort.client.client import Client
    from retort.client.transport import ClientError

    try:
        with Client(url, key=read_key_file(key_file), patience_s=0) as client:
            return pages.login_link(client)
    except ClientError:
        return None


def _ensure_key(settings: Settings) -> Path:
    """Make the operator's key of this machine where there is none."""
    from retort.db import Database, embedded_key

    database = Database(settings.database_url)
    try:
        return embedded_key.ensure(database, settings.home)
    finally:
        database.close()


def _readiness(url: str) -> dict[str, Any] | None:
    """Return what the service says of itself once it takes jobs; None before."""
    status, found = _asked(url)
    return found if status == 200 else None


def _asked(url: str, key_file: Path | None = None) -> tuple[int | None, dict[str, Any]]:
    """Return the status and the document of the service's readiness; None where nothing answers.

    Details are in it only with a key.
    """
    import httpx2 as httpx

    key = key_file and read_key_file(key_file)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with suppress(httpx.TransportError, ValueError):
        answer = httpx.get(f"{url}/readyz", headers=headers, timeout=5, trust_env=False)
        return answer.status_code, dict(answer.json())
    return None, {}


_REMEDIES = {
    "database": "see that the database {database} runs and takes this user: RETORT_DATABASE_URL",
    "migrations": "run python -m retort.db upgrade with the same settings",
    "store": "see that the store {store} is there and may be written: RETORT_STORE_URL",
    "broker": "see that the broker runs: RETORT_BROKER_URL",
    "disk": "make room: retort prune, or a larger disk; RETORT_MIN_FREE_BYTES says how much is kept free",
}
"""What to do about a check that fails, by its name."""


def why_not_ready(status: int | None, found: dict[str, Any], url: str, settings: Settings) -> tuple[str, str]:
    """Return which checks of readiness fail, and what to do about them."""
    if status is None:
        return f"nothing answers at {url}/readyz", "messages of retort_api above say why; --host or --port may be wrong"
    failed = {name: one for name, one in found.get("checks", {}).items() if one.get("status") != "ok"}
    if not failed:
        return f"{url}/readyz answers {status}", "another program may listen there: --port"
    said = "; ".join(f"the check {name!r} fails: {one.get('detail')}" for name, one in failed.items())
    places = {"database": redact(settings.database_url), "store": redact(settings.store_url)}
    return said, "; ".join(_REMEDIES.get(name, "its message says why").format(**places) for name in failed)


QUICK_S = 20.0
"""A part that dies sooner than this after its start has died quickly."""
MAX_QUICK_DEATHS = 5
"""So many quick deaths in a row, and the service gives up."""
LONGEST_PAUSE_S = 30.0
POLL_S = 0.1


@dataclass(slots=True)
class ManagedProcess:
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
        """Start the process in a new session, which the terminal's Ctrl-C does not reach."""
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
            TransientError: it has died quickly too often.

        """
        assert self.process is not None
        quick = time.monotonic() - self.started_at < QUICK_S
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        if self.quick_deaths >= MAX_QUICK_DEATHS:
            raise TransientError(
                f"{self.module} died {self.quick_deaths} times in a row, last with exit code {self.process.returncode}",
                hint="its messages above say why",
                code="part_keeps_dying",
            )
        pause_s: float = min(self.backoff_s * 2**self.quick_deaths, LONGEST_PAUSE_S)
        self.restart_at = time.monotonic() + pause_s
        return pause_s


@dataclass(slots=True)
class ProcessSupervisor:
    """Runs parts until a signal asks to stop: the first drains, the second kills."""

    parts: Sequence[ManagedProcess]
    grace_s: float
    """How long draining may take."""
    say: Callable[[str], None]
    signals: int = field(default=0, init=False)

    def run(
        self,
        *,
        ready: Callable[[], bool],
        announce: Callable[[], None],
        late: Callable[[], tuple[str, str]],
        patience_s: float = 120.0,
    ) -> None:
        """Run until asked to stop; *announce* once, when *ready* first says so.

        *late* says why it is not ready, and what to do.

        Raises:
            TransientError: a part keeps dying, or the service has not become ready within *patience_s*.

        """
        previous = {number: signal.signal(number, self._asked) for number in STOPPING}
        try:
            self._start()
            self._until(ready, late, patience_s)
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

    def _until(self, ready: Callable[[], bool], late: Callable[[], tuple[str, str]], patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while not self.signals and not ready():
            if time.monotonic() > deadline:
                why, hint = late()
                raise TransientError(
                    f"the service is not ready after {patience_s:.0f} s: {why}", hint=hint, code="not_ready"
                )
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
