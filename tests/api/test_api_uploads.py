"""Large files come in by parts: each under its digest, resumable, nothing twice, and nobody learns of others'."""

from __future__ import annotations

import base64
import hashlib
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.access import ClientRole
from retort.db import Database
from retort.settings import Settings
from retort.storage import Store
from support.api_harness import serving
from support.checkpoints import checkpoint
from support.identity import add_key

PART = 64 << 10
CONTENT = os.urandom(2 * PART + 100)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PARTS = [CONTENT[at : at + PART] for at in range(0, len(CONTENT), PART)]


def digest(data: bytes, field: str = "Repr-Digest") -> dict[str, str]:
    encoded = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {field: f"sha-256=:{encoded}:", "Content-Type": "application/octet-stream"}


def begin(client: TestClient, **about: Any) -> Any:
    return client.post("/v1/uploads", json={"size_bytes": len(CONTENT), "part_bytes": PART, **about})


def put(client: TestClient, upload: dict[str, Any], number: int, data: bytes | None = None, **headers: Any) -> Any:
    data = PARTS[number - 1] if data is None else data
    return client.put(
        f"/v1/uploads/{upload['id']}/parts/{number}", content=data, headers={**digest(data), **headers}
    )  # fmt: skip


def stored(settings: Settings, upload: dict[str, Any]) -> bytes:
    store = Store(settings.store_url)
    keys = [f"sha256/{part['sha256'][:2]}/{part['sha256']}" for part in upload["parts"]]
    return b"".join(piece for key in keys for piece in store.read(key))


def test_parts_come_in_any_order_and_the_whole_is_checked(client: TestClient, settings: Settings):
    answer = begin(client, sha256=SHA256, name="bccd.zip")
    upload = answer.json()
    assert (answer.status_code, upload["state"], upload["missing"]) == (201, "open", [1, 2, 3])
    assert answer.headers["Location"] == upload["links"]["self"]

    assert [put(client, upload, number).status_code for number in (3, 1)] == [201, 201]
    assert put(client, upload, 3).status_code == 200, "again is harmless"
    early = client.post(upload["links"]["complete"])
    assert (early.status_code, early.json()["code"]) == (409, "upload_conflict")
    there = client.get(upload["links"]["self"]).json()
    assert ([part["number"] for part in there["parts"]], there["missing"]) == ([1, 3], [2])
    assert there["received_bytes"] == PART + 100

    assert put(client, upload, 2).status_code == 201
    done = [client.post(upload["links"]["complete"]).json() for _ in range(2)]
    assert [(one["state"], one["sha256"], one["missing"]) for one in done] == [("complete", SHA256, [])] * 2
    assert stored(client.app.state.service.settings, done[0]) == CONTENT  # type: ignore[attr-defined]
    assert settings


@pytest.mark.parametrize(
    ("number", "data", "headers", "status", "code"),
    [
        (1, PARTS[1], digest(PARTS[0]), 422, "bad_digest"),
        (1, PARTS[0], {"Repr-Digest": "md5=:AA==:"}, 422, "bad_parameter"),
        (1, PARTS[0], {"Repr-Digest": ""}, 422, "bad_parameter"),
        (1, PARTS[0], digest(PARTS[1], "Content-Digest"), 422, "bad_parameter"),
        (1, PARTS[0][:-1], {}, 422, "bad_parameter"),
        (1, PARTS[0] + b"x", {}, 413, "body_too_large"),
        (4, PARTS[0], {}, 422, "bad_parameter"),
        (0, PARTS[0], {}, 422, "bad_parameter"),
    ],
)
def test_a_part_that_is_not_what_it_says_is_not_kept(  # noqa: PLR0917 - one for each thing that is wrong
    small_client: TestClient, number: int, data: bytes, headers: dict[str, str], status: int, code: str
):
    upload = begin(small_client).json()
    answer = put(small_client, upload, number, data, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert small_client.get(upload["links"]["self"]).json()["parts"] == []


def test_a_file_that_is_not_the_announced_one_is_never_complete(small_client: TestClient):
    upload = begin(small_client, sha256="0" * 64).json()
    for number in (1, 2, 3):
        put(small_client, upload, number)
    answer = small_client.post(upload["links"]["complete"])
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_digest")
    assert small_client.get(upload["links"]["self"]).json()["state"] == "open"


def test_what_the_project_has_sent_is_not_sent_again_and_no_other_project_learns_of_it(
    client: TestClient, database: Database
):
    ann = add_key(database, "ann", ClientRole.SUBMITTER, project="ann", owner="ann")
    ben = add_key(database, "ben", ClientRole.SUBMITTER, project="ann", owner="ben")
    eve = add_key(database, "eve", ClientRole.SUBMITTER, project="eve", owner="eve")
    parts = [{"sha256": hashlib.sha256(part).hexdigest(), "size_bytes": len(part)} for part in PARTS]
    whole = {"size_bytes": len(CONTENT), "sha256": SHA256, "parts": parts}

    upload = client.post("/v1/uploads", json=whole, headers=ann).json()
    for number in (1, 2):
        assert put(client, upload, number, **ann).status_code == 201
    again = client.post("/v1/uploads", json=whole, headers=ann)
    assert (again.status_code, again.json()["id"], again.json()["missing"]) == (200, upload["id"], [3]), "it goes on"
    mate = client.post("/v1/uploads", json=whole, headers=ben).json()
    assert (mate["id"] != upload["id"], mate["missing"]) == (True, [3]), "parts of one's project are known"

    assert put(client, upload, 3, **ann).status_code == 201
    assert client.post(upload["links"]["complete"], headers=ann).status_code == 200
    known = client.post("/v1/uploads", json=whole, headers=ben)
    assert (known.status_code, known.json()["state"]) == (200, "complete")

    stranger = client.post("/v1/uploads", json=whole, headers=eve)
    assert (stranger.status_code, stranger.json()["missing"]) == (201, [1, 2, 3])
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/complete")):
        told = client.request(method, upload["links"]["self"] + path, headers=eve)
        assert (told.status_code, told.json()["code"]) == (404, "upload_not_found")
    assert put(client, upload, 1, **eve).status_code == 404


def test_uploads_are_bounded_in_size_number_and_parts(sqlite_url: str, tmp_path: Path):
    settings = Settings(home=tmp_path, database_url=sqlite_url, max_upload_bytes=len(CONTENT), max_uploads=2)
    with serving(settings) as client:
        large = begin(client, size_bytes=len(CONTENT) + 1)
        assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
        first = [begin(client).json()["id"] for _ in range(2)]
        third = begin(client)
        assert (third.status_code, third.json()["code"]) == (429, "quota_exceeded")
        assert int(third.headers["Retry-After"]) > 0
        tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
        assert client.post("/v1/tus", headers=tus).json()["code"] == "quota_exceeded"
        assert client.delete(f"/v1/uploads/{first[0]}").status_code == 204
        assert begin(client).status_code == 201
        assert begin(client, size_bytes=1 << 36).json()["code"] == "bad_parameter", "more parts than there may be"


def test_what_exceeds_the_projects_bytes_is_refused_before_any_comes(sqlite_url: str, tmp_path: Path):
    settings = Settings(home=tmp_path, database_url=sqlite_url, max_stored_bytes=2 * len(CONTENT) - 1)
    with serving(settings) as client:
        assert begin(client).status_code == 201
        tus = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(CONTENT))}
        head = {"Content-Type": "application/octet-stream"}
        model = {"params": {"name": "m"}, "content": CONTENT, "headers": head}
        for answer in (begin(client), client.post("/v1/tus", headers=tus), client.post("/v1/models", **model)):
            assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
            assert "stored bytes" in answer.text
        assert len(client.get("/v1/uploads").json()["data"]) == 1


@contextmanager
def full_at(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: the system then says the same as for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_as_such_and_loses_nothing_that_was_sent(small_client: TestClient):
    parts = [os.urandom(6 << 20), b"x"]
    upload = begin(small_client, size_bytes=(6 << 20) + 1, part_bytes=6 << 20).json()
    assert put(small_client, upload, 2, parts[1]).status_code == 201
    with full_at(4 << 20):
        answer = put(small_client, upload, 1, parts[0])
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        head = {"Content-Type": "application/octet-stream"}
        model = small_client.post("/v1/models", params={"name": "m"}, content=parts[0], headers=head)
        assert (model.status_code, model.json()["code"]) == (507, "storage_full")
    assert small_client.get(upload["links"]["self"]).json()["missing"] == [1]
    assert put(small_client, upload, 1, parts[0]).status_code == 201


def test_what_the_disk_has_no_room_for_is_not_begun(sqlite_url: str, tmp_path: Path):
    settings = Settings(home=tmp_path, database_url=sqlite_url, max_upload_bytes=1 << 50)
    with serving(settings) as client:
        answer = begin(client, size_bytes=shutil.disk_usage(tmp_path).free + 1, part_bytes=64 << 20)
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")


def test_parts_that_were_sent_to_the_store_itself_are_looked_at_before_they_count(
    small_client: TestClient, small_settings: Settings
):
    upload = begin(small_client, sha256=SHA256).json()
    put(small_client, upload, 1)
    refused = small_client.post(upload["links"]["self"] + "/links")
    assert (refused.status_code, refused.json()["code"]) == (409, "upload_conflict"), "a folder signs nothing"
    sent = small_settings.home / "artifacts" / "incoming" / upload["id"]
    sent.mkdir(parents=True)
    (sent / "2").write_bytes(PARTS[1])
    (sent / "3").write_bytes(PARTS[2] + b"more than was announced")
    assert small_client.post(upload["links"]["complete"]).status_code == 409
    assert small_client.get(upload["links"]["self"]).json()["missing"] == [3]
    assert not sent.exists(), "the part of another size is gone, too"
    sent.mkdir(parents=True)
    (sent / "3").write_bytes(PARTS[2])
    done = small_client.post(upload["links"]["complete"]).json()
    assert (done["state"], done["sha256"]) == ("complete", SHA256)
    assert list(sent.iterdir()) == []


def test_an_object_store_signs_addresses_for_parts(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    settings = Settings(home=tmp_path, database_url=sqlite_url, store_url="s3://bucket/retort")
    with serving(settings) as client:
        upload = begin(client).json()
        links = client.post(upload["links"]["self"] + "/links", params={"first": 2}).json()["data"]
    assert [link["number"] for link in links] == [2, 3]
    assert f"/retort/incoming/{upload['id']}/2?" in links[0]["url"]
    assert "X-Amz-Signature=" in links[0]["url"]


def test_weights_are_registered_from_a_complete_upload_of_ones_own_project_alone(
    small_client: TestClient, small_settings: Settings
):
    data = checkpoint((), note="weights")
    upload = begin(small_client, size_bytes=len(data)).json()
    asked = {"params": {"name": "teacher", "upload": upload["id"]}}
    early = small_client.post("/v1/models", **asked)
    assert (early.status_code, early.json()["code"]) == (409, "upload_conflict")
    assert put(small_client, upload, 1, data).status_code == 201
    assert small_client.post(upload["links"]["complete"]).status_code == 200
    with closing(Database(small_settings.database_url)) as database:
        eve = add_key(database, "eve", ClientRole.SUBMITTER, project="eve", owner="eve")
    assert small_client.post("/v1/models", headers=eve, **asked).status_code == 404
    model = small_client.post("/v1/models", **asked)
    assert (model.status_code, model.json()["sha256"]) == (201, hashlib.sha256(data).hexdigest())
    assert small_client.delete(upload["links"]["self"]).status_code == 204
    assert small_client.get(f"/v1/models/teacher/{model.json()['sha256']}").content == data
