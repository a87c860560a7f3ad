"""The service refuses what would fill its disk, and goes on answering."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
from retort.db import Database, DatabaseUnavailable
from retort.db.stored_bytes import stored_bytes
from retort.settings import Settings
from retort_api import deps
from retort_api.disk_budget import DiskBudget
from support.api_harness import SPEC, Worker, serving

SWEEP = {
    "name": "s", "base": SPEC, "parameters": {"training.epochs": {"values": [1, 2]}}, "search": {"strategy": "grid"},
}  # fmt: skip
BINARY = {"Content-Type": "application/octet-stream"}


def test_nothing_more_is_taken_where_the_disk_or_the_budget_is_full_and_reading_goes_on(small_settings: Settings):
    """A full disk was an error of the database in the middle of something, for everybody."""
    with serving(small_settings) as client:
        job = client.post("/v1/jobs", json=SPEC).json()["id"]
        client.post(f"/v1/jobs/{job}/cancel")
    for setting in ("min_free_bytes", "max_store_bytes"):
        changes = {"min_free_bytes": 1 << 60} if setting == "min_free_bytes" else {"max_store_bytes": 1 << 20}
        with serving(small_settings.model_copy(update=changes)) as client:
            budget = client.app.state.service.disk
            if setting == "max_store_bytes":
                assert client.post("/v1/jobs", json=SPEC).status_code == 202
                budget._stored = (float("inf"), (1 << 20))  # what the database would tell once it is so
                budget._roomy_until = 0.0  # and a moment later
            asked = [
                client.post("/v1/jobs", json=SPEC), client.post("/v1/sweeps", json=SWEEP),
                client.post(f"/v1/jobs/{job}/clone", json={}), client.post(f"/v1/jobs/{job}/retry"),
                client.post("/v1/models?name=a", content=b"x" * 100, headers=BINARY),
            ]  # fmt: skip
            assert [(one.status_code, one.json()["code"]) for one in asked] == [(507, "storage_full")] * len(asked)
            assert f"RETORT_{setting.upper()}" in asked[0].json()["hint"]
            assert client.get(f"/v1/jobs/{job}").status_code == 200
            ready = client.get("/readyz")
            assert (ready.status_code, ready.json()["checks"]["disk"]["status"]) == (200, "failed")


def test_an_upload_is_weighed_before_any_of_it_is_read(small_settings: Settings, sqlite_url: str):
    free = {"bytes": 10 << 30}
    settings = small_settings.model_copy(update={"min_free_bytes": 1 << 30})
    with serving(settings) as client:
        store = client.app.state.service.store
    budget = DiskBudget(settings, Database(sqlite_url), lambda: store, free=lambda _: free["bytes"])
    assert budget.full(9 << 30) is None
    assert budget.full((9 << 30) + 1) is not None
    free["bytes"] = 1 << 29
    assert budget.full() is not None


def test_an_object_that_several_rows_name_is_counted_once(worker: Worker, job_id: str, database: Database):
    before, lease = stored(database), worker.claim(job_id)
    worker.publish(lease, "a.bin", b"12345")
    once = stored(database)
    worker.publish(lease, "b.bin", b"12345")
    assert (once - before, stored(database)) == (5, once)


def stored(database: Database) -> int:
    with database.read() as session:
        return stored_bytes(session)


def test_a_disk_that_fills_up_during_a_request_is_507_and_not_a_mistake_of_ours(
    small_settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """The folder of temporary files was full: ``500 internal``, quote the request_id."""

    class Full(DiskBudget):
        def check(self, more_bytes: int = 0) -> None:  # noqa: ARG002
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(deps, "DiskBudget", Full)
    with serving(small_settings) as client:
        answer = client.post("/v1/models?name=a", content=b"x", headers=BINARY)
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")


def test_a_database_without_room_says_so(tmp_path: Path):
    with sqlite3.connect(tmp_path / "small.db") as small:
        small.execute("CREATE TABLE filled (bytes BLOB)")
    small.close()
    database = Database(f"sqlite:///{tmp_path / 'small.db'}")

    def fill() -> None:
        with database.begin() as session:
            session.connection().exec_driver_sql("PRAGMA max_page_count = 4")
            session.connection().exec_driver_sql("INSERT INTO filled VALUES (zeroblob(1000000))")

    with pytest.raises(DatabaseUnavailable) as caught:
        fill()
    assert caught.value.code == "storage_full"
