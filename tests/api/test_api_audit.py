"""Who changed what, when, from where: in the transaction of the change, and without secrets."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.access import ClientRole
from retort.db import Database, audit, keys
from retort.db.audit import Act
from retort.db.session import database_now
from retort.settings import Settings
from retort_api.audit import RefusalLog
from sqlalchemy import event
from support.api_harness import SPEC, SWEEP, serving
from support.identity import OPERATOR, add_key


def service_of(client: TestClient) -> Any:
    app: Any = client.app
    return app.state.service


def entries(client: TestClient, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/audit", params=filters).json()["data"]
    return found


def test_each_change_is_on_record_with_who_made_it(client: TestClient, database: Database) -> None:
    ann = add_key(database, "ann", ClientRole.OPERATOR, project="birds", owner="ann")
    job_id = client.post("/v1/jobs", json=SPEC, headers=ann).json()["id"]
    client.post(f"/v1/jobs/{job_id}/cancel", headers={**ann, "X-Request-ID": "mine"})
    client.get(f"/v1/jobs/{job_id}", headers=ann)
    client.post("/v1/sweeps", json=SWEEP)

    swept, cancelled, submitted = entries(client)
    assert (submitted["action"], submitted["target"], submitted["outcome"]) == ("submit_job", job_id, "done")
    assert (cancelled["action"], cancelled["target"]) == ("cancel_job", job_id)
    assert cancelled["request_id"] == "mine"
    assert {one["owner"] for one in (submitted, cancelled)} == {"ann"}
    assert {one["project"] for one in (submitted, cancelled)} == {"birds"}
    assert submitted["address"] == "testclient"
    assert submitted["key_id"].startswith("key_")
    assert swept["action"] == "submit_sweep"


def test_what_is_refused_is_on_record_too(client: TestClient, database: Database) -> None:
    eve = add_key(database, "eve", ClientRole.READER, owner="eve")
    client.post("/v1/jobs", json=SPEC, headers=eve)
    client.post("/v1/jobs", json={"name": "x"})
    client.post(f"/v1/jobs/job_{'0' * 32}/cancel")

    told = [(one["action"], one["owner"], one["outcome"]) for one in entries(client)]
    assert told == [
        ("cancel_job", "default", "refused_404"), ("submit_job", "default", "refused_422"),
        ("submit_job", "eve", "forbidden"),
    ]  # fmt: skip


def test_a_change_that_is_not_made_is_not_on_record_as_made(database: Database) -> None:
    act = Act(project="default", owner="ann", key_id="key_1", action="x")
    with pytest.raises(ZeroDivisionError), audit.acting(act), database.begin():
        raise ZeroDivisionError
    with audit.acting(act), database.begin():
        pass
    with audit.acting(act), database.begin() as session:
        keys.create_project(session, "default", now=0.0)

    with database.read() as session:
        assert [row.action for row in audit.entries(session)] == ["x"], "what changes nothing later is no entry"


def test_each_transaction_of_a_request_that_changes_something_is_on_record(database: Database) -> None:
    """The first stood for all: what a request went on to change after it was nowhere."""
    act = Act(project="default", owner="ann", key_id="key_1", action="x")
    with audit.acting(act):
        for name in ("one", "two", "two", "three"):
            act.target = name
            with database.begin() as session:
                keys.create_project(session, name, now=0.0)
        with pytest.raises(ZeroDivisionError), database.begin() as session:
            act.target = keys.create_project(session, "four", now=0.0) / 0

    with database.read() as session:
        assert [row.target for row in reversed(audit.entries(session))] == ["one", "two", "three"]


def test_many_refusals_are_written_together_and_none_is_lost(client: TestClient) -> None:
    """Each was a transaction of its own, for which whoever was refused waited."""
    began: list[object] = []
    event.listen(service_of(client).database.engine, "commit", began.append)
    for number in range(500):
        client.post(f"/v1/jobs/job_{number:032x}/cancel")

    assert len(began) < 100
    told = entries(client, action="cancel_job", limit=1000)
    assert [one["target"] for one in told] == [f"job_{number:032x}" for number in reversed(range(500))]
    assert sorted((one["at"] for one in told), reverse=True) == [one["at"] for one in told]


def test_refusals_are_written_at_shutdown(settings: Settings, database: Database) -> None:
    with serving(settings) as client:
        client.post(f"/v1/jobs/job_{0:032x}/cancel")

    with database.read() as session:
        assert [row.target for row in audit.entries(session)] == [f"job_{0:032x}"]


def test_refusals_outlast_a_database_that_is_away(sqlite_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "unmounted"
    with closing(Database(f"sqlite:///{folder}/retort.db")) as database:
        refusals = RefusalLog(database)
        for name in ("one", "two"):
            act = Act(project="default", owner="ann", key_id="key_1", action="x", target=name)
            asyncio.run(refusals.add(act, "forbidden"))
        refusals.flush()
        folder.mkdir()
        shutil.copy(sqlite_url.removeprefix("sqlite:///"), folder / "retort.db")
        refusals.flush()

        with database.read() as session:
            assert [row.target for row in audit.entries(session)] == ["two", "one"]


def test_no_secret_gets_into_the_log(client: TestClient) -> None:
    secret = "Idempotency-hunter2"  # noqa: S105 - of nobody
    client.post("/v1/jobs", json={**SPEC, "name": "hunter2"}, headers={"Idempotency-Key": secret})
    client.post("/v1/jobs?token=hunter2", json=SPEC)

    told = str(entries(client))
    assert "hunter2" not in told
    assert OPERATOR not in told


def test_the_log_is_for_operators_paged_filtered_and_ends(client: TestClient, database: Database) -> None:
    ann = add_key(database, "ann", ClientRole.SUBMITTER, project="birds", owner="ann")
    for _ in range(3):
        client.post("/v1/jobs", json=SPEC, headers=ann)
    client.post("/v1/jobs", json=SPEC)

    assert client.get("/v1/audit", headers=ann).status_code == 403
    assert len(entries(client, owner="ann")) == len(entries(client, project="birds")) == 3
    assert entries(client, action="cancel_job") == []
    page = client.get("/v1/audit?limit=3").json()
    rest = client.get(f"/v1/audit?limit=3&before={page['next_before']}").json()
    assert (len(page["data"]), len(rest["data"]), rest["next_before"]) == (3, 1, None)
    with database.begin() as session:
        assert audit.prune(session, before=database_now(session) + 1) == 4
    assert entries(client) == []
