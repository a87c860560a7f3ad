"""A real application on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient
from retort.db import Database, Lease
from retort.settings import Settings
from retort.storage import Store
from retort_api.app import create_app
from support.api_harness import LOCAL, SPEC, Worker, serving
from support.identity import HEADERS


@pytest.fixture(scope="session", autouse=True)
def _plain_log() -> None:
    """Print tracebacks as Python does: structlog's own default draws every variable of every frame, for seconds."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure([structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, plain])


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, database_url=database_url, data_dirs="/")


@pytest.fixture
def small_settings(sqlite_url: str, tmp_path: Path) -> Settings:
    """For what the database has no part in."""
    return Settings(home=tmp_path, database_url=sqlite_url, data_dirs="/")


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=LOCAL, headers=HEADERS) as client:
        yield client


@pytest.fixture
def small_client(small_settings: Settings) -> Iterator[TestClient]:
    with serving(small_settings) as client:
        yield client


@pytest.fixture
def worker(settings: Settings, database: Database, tmp_path: Path) -> Worker:
    return Worker(database, Store(settings.store_url), tmp_path)


@pytest.fixture
def job_id(client: TestClient) -> str:
    answer = client.post("/v1/jobs", json=SPEC)
    assert answer.status_code == 202
    found: str = answer.json()["id"]
    return found


@pytest.fixture
def lease(worker: Worker, job_id: str) -> Lease:
    return worker.claim(job_id)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """The folder of a service that a module of tests fills once."""
    home = tmp_path_factory.mktemp("filled-once")
    (home / "retort.db").write_bytes(sqlite_template.read_bytes())
    return home


@pytest.fixture(scope="module")
def own_settings(home: Path) -> Settings:
    """Its settings."""
    return Settings(home=home, database_url=f"sqlite:///{home / 'retort.db'}", data_dirs="/")


@pytest.fixture(scope="module")
def people(own_settings: Settings) -> Iterator[TestClient]:
    """A browser of it, which follows no redirect."""
    with TestClient(create_app(own_settings), base_url=LOCAL, headers=HEADERS, follow_redirects=False) as client:
        yield client
