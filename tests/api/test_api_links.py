"""A signed address opens one file to whoever has it, until it expires or the secret is rotated."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from retort.db import Lease
from retort.storage import Store
from retort_api.links import SECRET_FILE, Link, LinkExpired, LinkInvalid, LinkSigner
from retort_api.routes import links as routes_links
from support.api_harness import Worker

LINK = Link("art_" + "0" * 32, "a" * 64, 2_000_000_000)


@pytest.fixture
def artifact_id(client: TestClient, worker: Worker, lease: Lease, job_id: str) -> str:
    worker.publish(lease, "student.pt", b"weights")
    found: str = client.get(f"/v1/jobs/{job_id}/artifacts").json()["data"][0]["id"]
    return found


def address(client: TestClient, artifact_id: str, **wanted: int) -> str:
    answer = client.post(f"/v1/artifacts/{artifact_id}/download-url", json=wanted)
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["url"]
    return url[url.index("/v1/") :]


def test_a_signed_address_opens_its_file_without_a_key(client: TestClient, artifact_id: str):
    link = address(client, artifact_id)
    stranger = {"Authorization": ""}
    assert client.get(link, headers=stranger).content == b"weights"
    part = client.get(link, headers={**stranger, "Range": "bytes=2-3"})
    assert (part.status_code, part.content) == (206, b"ig")
    assert client.head(link, headers=stranger).headers["Content-Length"] == "7"


def test_an_address_that_was_changed_opens_nothing(client: TestClient, artifact_id: str):
    link = address(client, artifact_id)
    for wrong in (link[:-1], link + "A", link.replace("/downloads/", "/downloads/x"), "/v1/downloads/e30.x"):
        assert client.get(wrong).json()["code"] == "link_invalid"


def test_an_address_opens_nothing_after_its_time(client: TestClient, artifact_id: str):
    link = address(client, artifact_id, expires_in_s=1)
    signer = client.app.state.service.links  # type: ignore[attr-defined]
    token = link.rpartition("/")[2]
    assert signer.read(token, now=time.time()).artifact_id == artifact_id
    expired = signer.sign(Link(artifact_id, "a" * 64, int(time.time()) - 1))
    refused = client.get(f"/v1/downloads/{expired}")
    assert (refused.status_code, refused.json()["code"]) == (410, "link_expired")
    with pytest.raises(LinkExpired):
        signer.read(token, now=time.time() + 2)


def test_rotating_the_secret_revokes_every_address(client: TestClient, artifact_id: str):
    link = address(client, artifact_id)
    client.app.state.service.links.rotate()  # type: ignore[attr-defined]
    assert client.get(link).json()["code"] == "link_invalid"
    assert client.get(address(client, artifact_id)).content == b"weights"


def test_a_file_that_was_replaced_is_not_opened_by_the_old_address(
    client: TestClient, worker: Worker, lease: Lease, artifact_id: str
):
    link = address(client, artifact_id)
    worker.publish(lease, "student.pt", b"other")
    assert client.get(link).json()["code"] == "link_invalid"


def test_there_is_no_address_for_what_is_not_there(client: TestClient):
    for artifact_id in ("art_" + "0" * 32, "nonsense"):
        refused = client.post(f"/v1/artifacts/{artifact_id}/download-url", json={})
        assert (refused.status_code, refused.json()["code"]) == (404, "artifact_not_found")


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: LinkSigner(tmp_path).sign(LINK), range(16)))
    path = tmp_path / SECRET_FILE
    assert len(tokens) == 1
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert os.listdir(tmp_path) == [SECRET_FILE]  # noqa: PTH208 - names are what is asked for


def test_servers_that_share_a_secret_open_each_others_addresses(tmp_path: Path):
    token = LinkSigner(tmp_path / "a", "s3cret").sign(LINK)
    assert LinkSigner(tmp_path / "b", "s3cret").read(token, now=0) == LINK
    with pytest.raises(LinkInvalid):
        LinkSigner(tmp_path / "c", "other").read(token, now=0)


def test_an_object_store_signs_its_own_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "secret", "REGION": "eu-west-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    key = f"sha256/aa/{'a' * 64}"
    signed = Store("s3://bucket/prefix").presigned(key, 60)
    assert signed is not None
    assert f"prefix/{key}" in signed
    assert "X-Amz-Expires=60" in signed
    assert Store(tmp_path.as_uri()).presigned(key, 60) is None


@pytest.mark.parametrize(("late_s", "code"), [(-1, None), (0, "link_expired"), (1, "link_expired")])
def test_an_address_is_closed_from_the_moment_that_it_names(
    client: TestClient, artifact_id: str, late_s: int, code: str | None, monkeypatch: pytest.MonkeyPatch
):
    made = client.post(f"/v1/artifacts/{artifact_id}/download-url", json={"expires_in_s": 60}).json()
    link = made["url"][made["url"].index("/v1/") :]
    expires_at = datetime.fromisoformat(made["expires_at"]).timestamp()
    monkeypatch.setattr(routes_links, "time", SimpleNamespace(time=lambda: expires_at + late_s))
    for method in ("GET", "HEAD"):
        answer = client.request(method, link, headers={"Authorization": "", "Range": "bytes=0-1"})
        assert answer.status_code == (410 if code else 206 if method == "GET" else 200)
    assert code is None or client.get(link).json()["code"] == code
