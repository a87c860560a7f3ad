"""Houses for the tests of the worker: a database, a store, a broker and runs that follow a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from retort.client import Client
from support.api_harness import listening
from support.identity import OPERATOR
from support.worker_harness import House


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    made = House(tmp_path, database_url, f"sqla+sqlite:///{tmp_path / 'broker.db'}")
    yield made
    made.close()


@pytest.fixture
def small_house(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    """On SQLite only: where SQL is not the question."""
    made = House(tmp_path, sqlite_url, f"sqla+sqlite:///{tmp_path / 'broker.db'}")
    yield made
    made.close()


@pytest.fixture
def rung_house(tmp_path: Path, sqlite_url: str, broker_url: str) -> Iterator[House]:
    """On each broker."""
    made = House(tmp_path, sqlite_url, broker_url)
    yield made
    made.close()


@pytest.fixture
def service_settings() -> dict[str, Any]:
    """Settings of that service; a module names its own."""
    return {}


@pytest.fixture
def service(sqlite_template: Path, tmp_path: Path, service_settings: dict[str, Any]) -> Iterator[str]:
    """Address of a service."""
    (home := tmp_path / "service").mkdir()
    with listening(sqlite_template, home, **service_settings) as url:
        yield url


@pytest.fixture
def client(service: str) -> Iterator[Client]:
    """Client of that service, an operator's."""
    with Client(service, key=OPERATOR) as client:
        yield client


@pytest.fixture
def served_house(service: str, tmp_path: Path) -> Iterator[House]:
    """On that service's database and store."""
    assert service, "it has copied the database"
    home = tmp_path / "service"
    with closing(House(home, f"sqlite:///{home / 'retort.db'}", f"sqla+sqlite:///{home / 'broker.db'}")) as made:
        yield made
