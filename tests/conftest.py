"""Databases and brokers for all tests, each test on its own, on real servers started once per session; the lanes."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from retort.db import Database, migrate
from retort.db.models import Base
from servers import Postgres, Valkey, free_port, running
from sharing import Once, keep_to_own_cores, num_processes
from support import identity

if TYPE_CHECKING:
    from support.openid_provider import ProviderProcess
    from support.s3_server import Bucket, S3Server

keep_to_own_cores()  # before anything imports torch, which counts them once
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # by a shell that starts this in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # so programs that tests start would not heed Ctrl-C

# What an example takes says how busy the machine is: one of 1 ms has failed on 200 ms. A failure is printed whole.
_QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
settings.register_profile("any machine", **_QUIET)
settings.register_profile("short", max_examples=40, stateful_step_count=50, **_QUIET)
settings.register_profile("long", max_examples=250, stateful_step_count=40, **_QUIET)
settings.load_profile("any machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Processes for ``-n auto`` and ``-n logical``."""
    return num_processes()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever stands on a shared training; what trains by itself says so itself (tests/house looks)."""
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.train)
        if item.path.is_relative_to(Path(__file__).with_name("chaos")):
            item.add_marker(pytest.mark.chaos)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what each class of tests took, in all processes together."""
    took: dict[str, float] = {}
    tests: dict[str, set[str]] = {}
    for report in (one for kind in terminalreporter.stats.values() for one in kind if hasattr(one, "duration")):
        lane = next((mark for mark in ("smallest", "train", "chaos") if mark in report.keywords), "all others")
        took[lane] = took.get(lane, 0.0) + report.duration
        tests.setdefault(lane, set()).add(report.nodeid)
    terminalreporter.section("time of each class, of all processes together")
    for lane in sorted(took):
        terminalreporter.line(f"{lane}: {len(tests[lane])} tests, {took[lane]:.0f} s")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Makes a training once for all tests, also for those that run beside in other processes."""
    base = tmp_path_factory.getbasetemp()
    return Once((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with running(Postgres()) as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A Redis-protocol server."""
    with running(Valkey()) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server that checks signatures."""
    from support.s3_server import S3Server

    with closing(S3Server()) as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket of the test's own, where this process's stores look for theirs."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    found = s3.bucket()
    monkeypatch.setenv("RETORT_STORE_URL", found.url)
    return found


@pytest.fixture(scope="session")
def openid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    """An OpenID provider."""
    from support.openid_provider import ProviderProcess

    with closing(ProviderProcess(tmp_path_factory.mktemp("openid"), free_port())) as provider:
        provider.wait_until_up()
        yield provider


@pytest.fixture(scope="session")
def postgres_scratch(postgres: Postgres) -> str:
    """Name of a database with all tables, which the tests use one after the other."""
    name = postgres.create()
    with closing(Database(postgres.url(name))) as database:
        migrate.upgrade(database)
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables and no rows."""
    path = tmp_path_factory.mktemp("template") / "retort.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        migrate.upgrade(database)
        identity.seed(database)
    return path


@pytest.fixture
def postgres_url(postgres: Postgres, postgres_scratch: str) -> str:
    """Address of a migrated PostgreSQL database with the operator's key, and without other rows or connections."""
    # Thirty times faster than a new database, or TRUNCATE, for the few rows that a test leaves.
    postgres.clear(postgres_scratch, [table.name for table in reversed(Base.metadata.sorted_tables)])
    url = postgres.url(postgres_scratch)
    with closing(Database(url)) as database:
        identity.seed(database)
    return url


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Address of a migrated SQLite database of the test's own."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'retort.db')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Address of a migrated database of the test's own, on each server in turn."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a database without tables, on each server in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        name = postgres.create()
        yield postgres.url(name)
        postgres.drop(name)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database of the test's own, on each server in turn."""
    with closing(Database(database_url)) as database:
        yield database


@pytest.fixture(params=["sqlite", "redis"])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty broker of the test's own, embedded and real in turn."""
    if request.param == "sqlite":
        return f"sqla+sqlite:///{tmp_path / 'broker.db'}"
    server: Valkey = request.getfixturevalue("valkey")
    return server.fresh()
