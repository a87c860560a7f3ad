"""Houses for the tests of the worker: a database, a store, a broker and runs that follow a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
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
