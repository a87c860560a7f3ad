"""The page of datasets: what it shows, and its forms."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from retort.db import Database
from support import places
from support.api_harness import LOCAL, SPEC, Worker

OWN = {"Origin": LOCAL}


@pytest.fixture
def street(worker: Worker, tmp_path: Path) -> str:
    return places.ready_dataset(worker.database, worker.store, tmp_path, "street")


def test_a_dataset_shows_pictures_classes_copies_and_who_uses_it(client: TestClient, street: str):
    job = client.post("/v1/jobs", json={**SPEC, "data": {"dataset": street}}).json()
    page = client.get("/data/street").text

    assert page.count("<img src=") == 6
    assert "altered copies of training images" in page
    assert f'href="/jobs/{job["id"]}"' in page
    assert "dataset%3Astreet%40sha256%3A" in page, "the way to a job that uses it"
    assert client.get("/data/street/classes.csv").text.splitlines()[1] == "cell,800,190,990"


def test_what_a_spec_names_is_not_deleted_and_all_else_is_and_comes_back(client: TestClient, street: str):
    version = client.get("/v1/datasets").json()["data"][0]["id"]
    job = client.post("/v1/jobs", json={**SPEC, "data": {"dataset": street}}).json()["id"]
    form = {"data": {"version": version}, "headers": OWN, "follow_redirects": False}

    refused = client.post("/data/street/delete", **form)
    assert (refused.status_code, job in refused.text) == (409, True)
    client.post(f"/v1/jobs/{job}/cancel")
    client.delete(f"/v1/jobs/{job}")
    assert client.post("/data/street/delete", **form).headers["Location"] == "/data"
    assert 'href="/data/street' not in client.get("/data").text
    assert 'action="/data/street/restore"' in client.get("/data?deleted=true").text
    assert client.post("/data/street/restore", **form).status_code == 303
    assert 'href="/data/street' in client.get("/data").text


def test_an_archive_sent_without_javascript_becomes_a_dataset(client: TestClient):
    with zipfile.ZipFile(data := io.BytesIO(), "w") as packed:
        packed.writestr("data.yaml", "names: [a]")
    sent = client.post(
        "/data", data={"name": "plain"}, files={"archive": ("../x/plain.zip", data.getvalue())}, headers=OWN,
        follow_redirects=False,
    )  # fmt: skip
    assert sent.status_code == 303, sent.text
    page = client.get(sent.headers["Location"]).text
    assert "A worker looks through it" in page
    [upload] = client.get("/v1/uploads").json()["data"]
    assert (upload["state"], upload["name"], upload["size_bytes"]) == ("complete", "plain.zip", len(data.getvalue()))


def test_a_refused_dataset_says_why_and_is_offered_to_no_job(client: TestClient, database: Database):
    places.refused_dataset(database, "bad")
    page = client.get("/data/bad").text
    assert "no image has a box" in page
    assert "/new?dataset" not in page


def test_without_data_the_page_shows_the_first_command(client: TestClient):
    assert "retort datasets push" in client.get("/data").text
    assert client.get("/upload", follow_redirects=False).headers["Location"] == "/data"


def test_class_names_are_no_formulas_in_the_csv_and_no_markup_on_the_page(client: TestClient, worker: Worker):
    names = ["=cmd|'/c calc'!A0", "<script>window.hit=1</script>", "cell"]
    summary = {**places.SUMMARY, "names": names}
    places.ready_dataset(worker.database, worker.store, worker.folder, "hostile", summary=summary)
    assert client.get("/data/hostile/classes.csv").text.splitlines()[1].startswith("'=cmd")
    assert "<script>window" not in client.get("/data/hostile").text
