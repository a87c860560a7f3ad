"""A shop on each database in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from retort.db import Database
from retort.protocol.events import RunFailure
from retort.spec import JobSpec, parse_spec
from support.db_harness import Shop


@pytest.fixture
def spec() -> JobSpec:
    return parse_spec({"name": "a", "data": {"path": "/data"}, "teacher": {"weights": "yolo11l.pt"}})


@pytest.fixture
def shop(database: Database, spec: JobSpec) -> Shop:
    return Shop(database, spec)


@pytest.fixture
def postgres_shop(postgres_url: str, spec: JobSpec) -> Iterator[Shop]:
    with closing(Database(postgres_url)) as database:
        yield Shop(database, spec)


@pytest.fixture
def retryable() -> RunFailure:
    return RunFailure(code="out_of_disk", message="full", hint="make room", retryable=True)
