"""The page of models: lineage, figures, and its forms."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from retort.db import Lease
from support import places
from support.api_harness import LOCAL, Worker
from support.checkpoints import checkpoint

FORM = {"headers": {"Origin": LOCAL}, "follow_redirects": False}


def test_a_model_shows_figures_lineage_exports_and_short_references(
    client: TestClient, worker: Worker, lease: Lease, tmp_path: Path
):
    digest = places.model(worker.database, worker.store, tmp_path, "street-student", job_id=lease.job_id)
    page = client.get("/models/street-student").text

    for told in (f"street-student@{digest[:12]}", "48.3", "71.2", f'href="/jobs/{lease.job_id}"', "/data/digits"):
        assert told in page, told
    assert f"/new?teacher=model%3Astreet-student%40sha256%3A{digest}" in client.get("/models").text


def test_a_model_goes_to_the_trash_and_comes_back(client: TestClient, worker: Worker, tmp_path: Path):
    digest = places.model(worker.database, worker.store, tmp_path, "old")
    assert client.post("/models/old/delete", data={"sha256": digest}, **FORM).status_code == 303
    assert 'href="/models/old"' not in client.get("/models").text
    assert 'action="/models/old/restore"' in client.get("/models?deleted=true").text
    assert client.post("/models/old/restore", data={"sha256": digest}, **FORM).status_code == 303
    assert client.get("/models/old").status_code == 200


def test_weights_are_registered_by_a_form_and_what_is_none_is_refused(client: TestClient):
    sent = client.post("/models", data={"name": "mine"}, files={"weights": ("mine.pt", checkpoint())}, **FORM)
    assert (sent.status_code, sent.headers.get("Location")) == (303, "/models/mine"), sent.text
    refused = client.post("/models", data={"name": "no"}, files={"weights": ("no.pt", b"none")}, **FORM)
    assert refused.status_code == 422
    assert client.get("/models/no").status_code == 404


@pytest.mark.parametrize("named", ["{id}", "http://127.0.0.1/jobs/{id}/"])
def test_a_network_of_a_job_is_registered_with_its_lineage(
    client: TestClient, worker: Worker, lease: Lease, named: str
):
    worker.publish(lease, "best.pt", checkpoint())
    worker.publish(lease, "report.html", b"<p>")
    wanted = {"name": "kept", "job": named.format(id=lease.job_id), "artifact": "best.pt"}
    sent = client.post("/models/published", data=wanted, **FORM)
    assert sent.status_code == 303, sent.text
    [model] = client.get("/v1/models/kept").json()["data"]
    assert (model["job_id"], model["role"]) == (lease.job_id, "student")
    for wrong in ("report.html", "none.pt"):
        assert client.post("/models/published", data={**wanted, "artifact": wrong}, **FORM).status_code in {404, 422}
