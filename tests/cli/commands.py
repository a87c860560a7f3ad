"""``retort up`` as a process, and how a command ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "examples" / "specs" / "digits.yaml"
RUN_PROGRAM = ROOT / "tests" / "cli" / "run_program.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**settings: object) -> dict[str, str]:
    """Ours without any RETORT_ variable but those given; no program that predicts waits for images."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
    settings = {"predictor_idle_s": 0, **settings}
    return inherited | {f"RETORT_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def running(home: Path, *arguments: str, **settings: object) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """``retort up`` as a process, and what it said when it was ready; killed at the end when it still lives."""
    command = [sys.executable, "-m", "retort.cli", "up", "--json", "--home", str(home), *arguments]
    with (
        home.with_suffix(".log").open("w") as log,
        subprocess.Popen(
            command, env=environment(**settings), stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line, home.with_suffix(".log").read_text()
            yield process, json.loads(line)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def key_of(ready: dict[str, Any]) -> str:
    """Return the key that a service on this machine keeps in its home."""
    return Path(ready["key_file"]).read_text().strip()


def bearer(ready: dict[str, Any]) -> dict[str, str]:
    """Return the headers of requests to a service on this machine."""
    return {"Authorization": f"Bearer {key_of(ready)}"}


@dataclass
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.err)["error"]
        return found


Retort = Callable[..., Ended]
