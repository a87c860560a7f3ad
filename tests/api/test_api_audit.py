"""Who changed what, when, from where: in the transaction of the change, and without secrets."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.access import ClientRole
from retort.db import Database, audit
from retort.db.audit import Act
from retort.db.session import database_now
from support.api_harness import SPEC, SWEEP
from support.identity import OPERATOR, add_key


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
    with audit.acting(act), database.begin():
        pass

    with database.read() as session:
        assert [row.action for row in audit.entries(session)] == ["x"], "one request, one entry"


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
