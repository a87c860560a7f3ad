"""Send a large file that is cut off three times, by our command line and by a plain tus client.

The first cut is the line's: a proxy drops every connection. The second is the client's, which is killed and started
again. The third is the service's, which is killed in the middle and started again. Told are the time, the bytes that
went over the line, the most memory that the service took, and whether the digest is that of the file.

    python benchmarks/uploads.py --gigabytes 2 --json benchmarks/results/uploads-cpu.json
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT, ClientRole
from retort.db import Database, keys, migrate
from retort.db.session import database_now

_CHUNK_BYTES = 1 << 20
_CUTS = (0.25, 0.5, 0.75)
_CLIENTS = ("command line", "tus")
_TUS = """
import sys, time
from tusclient.client import TusClient
url, key, path, where = sys.argv[1:]
client = TusClient(f"{url}/v1/tus", headers={"Authorization": f"Bearer {key}"})
while True:
    try:
        known = open(where).read() if __import__("os").path.exists(where) else None
        sender = client.uploader(path, url=known and url + known, chunk_size=64 << 20)
        if known is None:
            sender.set_url(sender.create_url())
            open(where, "w").write(sender.url[len(url):])
        sender.upload()
        break
    except Exception as error:
        print("again:", error, flush=True)
        time.sleep(0.5)
"""


class Service:
    """A service process, which can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = f"sqlite:///{home / 'retort.db'}"
        self.port = _free_port()
        database = Database(self.database)
        migrate.upgrade(database)
        with database.begin() as session:
            now = database_now(session)
            keys.create_project(session, DEFAULT_PROJECT, now=now)
            wanted = keys.NewKey(name="b", role=ClientRole.OPERATOR, project=DEFAULT_PROJECT, owner=DEFAULT_OWNER)
            self.key = keys.create(session, wanted, now=now)[1]
        database.close()
        self.most_kib = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RETORT_")},
            "RETORT_HOME": str(self.home), "RETORT_DATABASE_URL": self.database, "RETORT_PORT": str(self.port),
        }  # fmt: skip
        with (self.home / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "retort_api"], env=environment, stdout=log, stderr=log
            )
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(f"http://127.0.0.1:{self.port}/livez").status_code == 200:
                    return
            time.sleep(0.2)

    def look(self) -> None:
        """Note the most memory that it has taken so far."""
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            told = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
            self.most_kib = max(self.most_kib, *told)

    def kill(self) -> None:
        """Kill it, in whatever it is doing."""
        self.look()
        self.process.kill()
        self.process.wait()


class Line:
    """A proxy in front of the service, which counts bytes and can drop every connection."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.sent = 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            self._open |= {near, far}
            threading.Thread(target=self._carry, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                self.sent += len(data) if counted else 0
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)

    def drop(self) -> None:
        """Drop every connection."""
        for end in tuple(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _write_random(path: Path, size: int, seed: int) -> str:
    """Write bytes that nothing can compress, the same for a seed; return their SHA-256."""
    source, digest = random.Random(seed), hashlib.sha256()  # noqa: S311 - nobody has to be unable to guess them
    with path.open("wb") as file:
        for at in range(0, size, _CHUNK_BYTES):
            chunk = source.randbytes(min(_CHUNK_BYTES, size - at))
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def measure(kind: str, size: int, folder: Path, seed: int) -> dict[str, Any]:
    """Send one file by one client through three cuts."""
    home, path = folder / kind, folder / f"{kind}.bin"
    home.mkdir()
    sha256 = _write_random(path, size, seed)
    service = Service(home)
    line = Line(service.port)
    command = _command(kind, line.url, service.key, path, folder)
    environment = {**os.environ, "RETORT_KEY": service.key, "RETORT_HOME": str(folder / "client")}

    def start() -> subprocess.Popen[bytes]:
        with (folder / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    began, client = time.monotonic(), start()
    cuts: list[Callable[[], None]] = [line.drop, client.kill, service.kill]
    for share, cut in zip(_CUTS, cuts, strict=True):
        while line.sent < share * size:
            service.look()
            time.sleep(0.05)
        cut()
        if cut == client.kill:
            client.wait()
            client = start()
        elif cut == service.kill:
            service.start()
    while client.poll() != 0:
        service.look()
        time.sleep(0.1)
        if client.poll() not in {None, 0}:
            client = start()  # it gave up while the service was away: the same command goes on
    took = time.monotonic() - began
    headers = {"Authorization": f"Bearer {service.key}"}
    found = httpx2.get(f"http://127.0.0.1:{service.port}/v1/uploads", headers=headers).json()["data"][0]
    service.kill()
    return {
        "client": kind, "bytes": size, "seconds": round(took, 1), "sent": line.sent,
        "sent_twice_mib": round((line.sent - size) / (1 << 20), 1), "service_most_mib": round(service.most_kib / 1024),
        "state": found["state"], "digest_equal": found["state"] == "complete" and found["sha256"] == sha256,
    }  # fmt: skip


def _command(kind: str, url: str, key: str, path: Path, folder: Path) -> list[str]:
    if kind == "tus":
        return [sys.executable, "-c", _TUS, url, key, str(path), str(folder / "tus.url")]
    return [sys.executable, "-m", "retort.cli", "datasets", "push", str(path), "--name", "b", "--no-wait", "--url", url]


def main() -> int:
    """Measure both clients, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=None, help="where files and stores lie for the while")
    parser.add_argument("--clients", nargs="+", choices=_CLIENTS, default=_CLIENTS)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    size = int(given.gigabytes * (1 << 30))
    told = []
    for number, kind in enumerate(given.clients):
        folder = Path(tempfile.mkdtemp(prefix="uploads-", dir=given.folder))
        try:
            told.append(measure(kind, size, folder, seed=number))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        sys.stdout.write(json.dumps(told[-1]) + "\n")
        sys.stdout.flush()
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": "2 cores, shared", "uploads": told}, indent=2) + "\n")
    return 0 if all(one["digest_equal"] and one["service_most_mib"] <= _MOST_MIB for one in told) else 1


_MOST_MIB = 200

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
