"""``retort up``: the whole service under one parent."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from retort.cli.options import AsJson
from retort.cli.output import note
from retort.errors import UserError, WorldError

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
    from retort.cli.supervisor import Part, Supervisor
    from retort.settings import Settings

    given = {"host": host, "port": port, "home": home}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    chosen = {"RETORT_HOME": settings.home, "RETORT_HOST": settings.host, "RETORT_PORT": settings.port}
    env = {**os.environ, **{name: str(value) for name, value in chosen.items()}}
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    reachable = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    url = f"http://[{reachable}]:{settings.port}" if ":" in reachable else f"http://{reachable}:{settings.port}"

    def announce() -> None:
        ready = {"url": url, "home": str(settings.home), "pid": os.getpid()}
        text = f"Retort is ready at {url} (home {settings.home}). Ctrl-C drains and stops."
        typer.echo(json.dumps(ready) if as_json else text)

    with _alone(settings.home):
        _check_port(settings.host, settings.port)
        _migrate(env)
        arguments = ["--run-command", *run_command] if run_command else []
        parts = [Part("retort_api", env), Part("retort_worker", env, arguments)]
        supervisor = Supervisor(parts, settings.grace_s + DRAIN_MARGIN_S, note)
        supervisor.run(ready=lambda: _is_ready(url), announce=announce)
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
        raise WorldError("the database could not be migrated", hint="its message above says why", code="migration")


def _is_ready(url: str) -> bool:
    import httpx2 as httpx

    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200
    return False
