"""What the service's benchmarks stand on: real servers, the service's processes, and a load generator written in C."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import httpx2 as httpx
from retort.access import read_key_file
from retort.db import Database, embedded_key, migrate
from servers import free_port
from support.worker_harness import document, write_dataset

T = TypeVar("T")
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Load:
    """What the generator saw."""

    per_second: float
    p99_ms: float
    failed: int


def eventually(look: Callable[[], T], timeout_s: float = PATIENCE_S, every_s: float = 0.02) -> T:
    """Look again and again until something true is seen."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing within {timeout_s} s")
        time.sleep(every_s)
    return seen


def load(url: str, *, seconds: float, connections: int, script: str = "") -> Load:
    """Send requests with wrk, one thread and so many connections, for so many seconds.

    Raises:
        RuntimeError: wrk is not installed.

    """
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed; on Debian and Ubuntu: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "--timeout", "30s"]
        told = subprocess.run(
            [*command, "-s", file.name, url], capture_output=True, text=True, check=True
        ).stdout  # fmt: skip
    failed = sum(int(number) for number in re.findall(r"(?:Non-2xx or 3xx responses: |timeout )(\d+)", told))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)", told)
    assert rate is not None, told
    assert slowest is not None, told
    return Load(float(rate[1]), float(slowest[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[slowest[2]], failed)


def post(body: str, content_type: str = "application/json") -> str:
    """Return a script that posts *body* again and again."""
    quoted = body.replace("\\", "\\\\").replace('"', '\\"')
    return f'wrk.method = "POST"\nwrk.body = "{quoted}"\nwrk.headers["Content-Type"] = "{content_type}"\n'


def with_key(headers: dict[str, str], script: str = "") -> str:
    """Return a script that sends *headers* as well."""
    return script + "".join(header(name, value) for name, value in headers.items())


def header(name: str, value: str) -> str:
    """Return a script that sends one header."""
    quoted = value.replace('"', '\\"')
    return f'wrk.headers["{name}"] = "{quoted}"\n'


@dataclass
class Stand:
    """One service on one database, as a user starts it."""

    folder: Path
    database_url: str
    broker_url: str
    settings: dict[str, Any] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        write_dataset(self.folder)
        self.database = Database(self.database_url)
        migrate.upgrade(self.database)
        key = read_key_file(embedded_key.ensure(self.database, self.folder))
        self.headers = {"Authorization": f"Bearer {key}"}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, module: str, *arguments: str) -> None:
        """Start one of the service's programs."""
        self.start_program(module, "-m", module, *arguments)

    def start_program(self, name: str, *arguments: str) -> None:
        """Start Python with *arguments*, in the service's environment; its log has the *name*."""
        urls = {"home": self.folder, "database_url": self.database_url, "broker_url": self.broker_url}
        given = {**urls, "port": self.port, "predictor_idle_s": 0, **self.settings}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
        variables = {f"RETORT_{name.upper()}": str(value) for name, value in given.items()}
        with (self.folder / f"{name}-{len(self.processes)}.log").open("wb") as log:
            command = [sys.executable, *arguments]
            self.processes.append(subprocess.Popen(command, env={**kept, **variables}, stdout=log, stderr=log))

    def start_api(self) -> None:
        """Start the API and wait until it answers."""
        self.start("retort_api")
        eventually(lambda: answers(f"{self.url}/readyz"))

    def document(self, name: str = "bench", **resources: Any) -> dict[str, Any]:
        """Return a spec that the service accepts."""
        return document(self.folder, name, epochs=1, **resources)

    def submit(self) -> httpx.Response:
        """Submit a job over HTTP."""
        url, body = f"{self.url}/v1/jobs", self.document()
        return httpx.post(url, json=body, headers=self.headers, trust_env=False).raise_for_status()

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(60)
        self.database.close()


@contextlib.contextmanager
def standing(folder: Path, database_url: str, broker_url: str, **settings: Any) -> Iterator[Stand]:
    """Give a stand, and end it."""
    stand = Stand(folder, database_url, broker_url, settings)
    with contextlib.closing(stand):
        yield stand


def answers(url: str) -> bool:
    """Return True if something answers well there."""
    try:
        return bool(httpx.get(url, trust_env=False, timeout=5).status_code < 400)
    except httpx.TransportError:
        return False


def percentile(values: list[float], share: float) -> float:
    """Return the value that *share* of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
